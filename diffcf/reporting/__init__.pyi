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
from .content import (
    Cell as Cell,
)
from .content import (
    Column as Column,
)
from .content import (
    Row as Row,
)
from .content import (
    Table as Table,
)
from .content import (
    as_markdown as as_markdown,
)
from .figures.curves import (
    dose_response as dose_response,
)
from .figures.curves import (
    quality_cost as quality_cost,
)
from .figures.dag import (
    DagLayout as DagLayout,
)
from .figures.dag import (
    Point as Point,
)
from .figures.dag import (
    curve as curve,
)
from .figures.dag import (
    layered as layered,
)
from .figures.graph import (
    graph_figure as graph_figure,
)
from .figures.pictures import (
    log_picture as log_picture,
)
from .figures.pictures import (
    save_figure as save_figure,
)
from .figures.pictures import (
    save_image as save_image,
)
from .figures.pictures import (
    show as show,
)
from .markup import (
    as_latex as as_latex,
)
from .markup import (
    refreshed as refreshed,
)
from .markup import (
    text_blocks as text_blocks,
)
from .measures import (
    cost as cost,
)
from .measures import (
    parts as parts,
)
from .measures import (
    sequence as sequence,
)
from .page import (
    figures_of as figures_of,
)
from .page import (
    write_page as write_page,
)
from .results import (
    Method as Method,
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
    markdown as markdown,
)
from .single import (
    print_table as print_table,
)
from .single import (
    references as references,
)
from .single import (
    results_table as results_table,
)
