from .faces.scene import (
    CartoonFaces as CartoonFaces,
)
from .flow import (
    FlowScene as FlowScene,
)
from .morphomnist import (
    MorphoMNIST as MorphoMNIST,
)
from .pendulum import (
    PendulumScene as PendulumScene,
)
from .shadow.scene import (
    PointlightScene as PointlightScene,
)
from .shadow.scene import (
    ShadowScene as ShadowScene,
)
from .shadow.scene import (
    SunlightScene as SunlightScene,
)
