"""Public names of the room; ``__init__.py`` loads them on demand."""

from .comparison import (
    ABLATIONS as ABLATIONS,
)
from .comparison import (
    ablation_table as ablation_table,
)
from .comparison import (
    comparison_tables as comparison_tables,
)
from .comparison import (
    cost_points as cost_points,
)
from .comparison import (
    nothing_score as nothing_score,
)
from .cost import (
    quality_cost as quality_cost,
)
from .cost import (
    save_figure as save_figure,
)
from .graph import (
    graph_figure as graph_figure,
)
from .layout import (
    DagLayout as DagLayout,
)
from .layout import (
    Point as Point,
)
from .layout import (
    curve as curve,
)
from .layout import (
    layered as layered,
)
from .measures import (
    Column as Column,
)
from .measures import (
    Place as Place,
)
from .measures import (
    Statistic as Statistic,
)
from .measures import (
    columns as columns,
)
from .measures import (
    long_table as long_table,
)
from .measures import (
    statistics as statistics,
)
from .pictures import (
    figures_of as figures_of,
)
from .pictures import (
    log_picture as log_picture,
)
from .pictures import (
    save_image as save_image,
)
from .pictures import (
    show as show,
)
from .results import (
    MethodResults as MethodResults,
)
from .results import (
    Record as Record,
)
from .results import (
    find_results as find_results,
)
from .results import (
    read_record as read_record,
)
from .single import (
    ablation_markdown as ablation_markdown,
)
from .single import (
    print_table as print_table,
)
from .single import (
    results_table as results_table,
)
from .single import (
    summary_table as summary_table,
)
from .single import (
    write_page as write_page,
)
from .tables import (
    ComparisonTable as ComparisonTable,
)
from .tables import (
    as_latex as as_latex,
)
from .tables import (
    as_markdown as as_markdown,
)
from .tables import (
    markdown as markdown,
)
