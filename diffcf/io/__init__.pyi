"""Public names of the room; ``__init__.py`` loads them on demand."""

from .aliases import (
    present as present,
)
from .aliases import (
    present_tensors as present_tensors,
)
from .class_path import (
    class_at as class_at,
)
from .class_path import (
    path_of as path_of,
)
from .decoding import (
    ImageFormat as ImageFormat,
)
from .decoding import (
    decode as decode,
)
from .decoding import (
    decode_bytes as decode_bytes,
)
from .environment import (
    device_name as device_name,
)
from .environment import (
    now as now,
)
from .environment import (
    versions as versions,
)
from .environment import (
    work as work,
)
from .errors import (
    CheckpointError as CheckpointError,
)
from .errors import (
    DataError as DataError,
)
from .errors import (
    DiffcfError as DiffcfError,
)
from .errors import (
    DivergenceError as DivergenceError,
)
from .errors import (
    GraphError as GraphError,
)
from .errors import (
    InterventionError as InterventionError,
)
from .errors import (
    OutputError as OutputError,
)
from .errors import (
    ResultsError as ResultsError,
)
from .errors import (
    SettingsError as SettingsError,
)
from .errors import (
    UnavailableError as UnavailableError,
)
from .files import (
    whole_file as whole_file,
)
from .files import (
    whole_folder as whole_folder,
)
from .files import (
    write_json as write_json,
)
from .files import (
    write_text as write_text,
)
from .image_files import (
    FORMATS as FORMATS,
)
from .image_files import (
    UnusableImage as UnusableImage,
)
from .image_files import (
    image_files as image_files,
)
from .image_files import (
    opened as opened,
)
from .tables import (
    Table as Table,
)
from .tables import (
    collected as collected,
)
from .tables import (
    image_names as image_names,
)
from .tables import (
    read_table as read_table,
)
from .tables import (
    read_text as read_text,
)
from .tensor_file import (
    SPEC_KEY as SPEC_KEY,
)
from .tensor_file import (
    read_tensors as read_tensors,
)
from .tensor_file import (
    write_tensors as write_tensors,
)
from .untrusted import (
    AllocationLimit as AllocationLimit,
)
from .untrusted import (
    check_archive as check_archive,
)
from .yaml_file import (
    YamlError as YamlError,
)
from .yaml_file import (
    load_yaml as load_yaml,
)
