"""A change of conf.d that somebody has in mind: what an edit page makes of its form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from relay.config import Mistake
from relay.console.edits.conf import ConfView
from relay.console.edits.tables import Files


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A change of conf.d, computed anew for each request from the form and from conf.d as it is."""

    subject: str
    """What changes, as the history names it, such as "connector heap"."""
    view: ConfView
    """conf.d, from which the files were computed."""
    files: Files = field(default_factory=dict)
    """The console's files as they would be. Empty: nothing changes, or there are mistakes."""
    mistakes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Sentences by field of the form; "" for the form as a whole. With any, relay is asked for more of them alone."""
    is_partial: bool = False
    """Whether fields of the form cannot be read, and are left out of the files."""
    name_field: Callable[[Mistake], str | None] = lambda mistake: None
    """Returns the field of the form that a mistake of relay is about; None: no field of this form."""
    is_text: bool = False
    """Whether the form has the text of a file: its mistakes are told with line and key."""
    connector: str | None = None
    """A connector that would run: Check tries its destination, and looks at the events of the last hour."""
    undoes: int = 0
    """The number of the launch that this draft takes back; 0: none."""
    done: str = ""
    """The page after the launch; the query `launched=NUMBER` is added. Empty: the page of the launch."""
