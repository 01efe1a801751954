from .base import (
    FactorImageDataModule as FactorImageDataModule,
)
from .base import (
    SceneDataModule as SceneDataModule,
)
from .celeba import (
    CelebADataModule as CelebADataModule,
)
from .factor_table import (
    FactorTableDataModule as FactorTableDataModule,
)
from .flow import (
    FlowDataModule as FlowDataModule,
)
from .pendulum import (
    PendulumDataModule as PendulumDataModule,
)
from .published import (
    PublishedFlowDataModule as PublishedFlowDataModule,
)
from .published import (
    PublishedPendulumDataModule as PublishedPendulumDataModule,
)
from .published_shadow import (
    PublishedPointlightDataModule as PublishedPointlightDataModule,
)
from .published_shadow import (
    PublishedShadowDataModule as PublishedShadowDataModule,
)
from .published_shadow import (
    PublishedSunlightDataModule as PublishedSunlightDataModule,
)
from .shadow import (
    PointlightDataModule as PointlightDataModule,
)
from .shadow import (
    ShadowDataModule as ShadowDataModule,
)
from .shadow import (
    SunlightDataModule as SunlightDataModule,
)
from .stored import (
    StoredImageDataModule as StoredImageDataModule,
)
