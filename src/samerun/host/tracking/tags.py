"""W&B's tags: what it takes, and how they are typed."""

from samerun.core import contract
from samerun.core.errors import TagError


def check_tag(tag: str) -> None:
    """Refuse a tag that would make ``wandb.init`` raise: W&B takes 1 to 64 characters."""
    if not tag.strip():
        raise TagError("A tag is empty.", "Write --tags a,b without spaces or double commas.")
    if not tag.isprintable():
        raise TagError(f"The tag {tag!r} holds a control character.", "Use printable characters.")
    if len(tag) > contract.TAG_LIMIT:
        raise TagError(
            f"The tag {tag!r} has {len(tag)} characters.", f"W&B takes {contract.TAG_LIMIT}."
        )


def split_tags(text: str | None) -> tuple[str, ...]:
    """Split ``a,b`` into tags; an empty one between commas is kept, for `check` to refuse."""
    return tuple(tag.strip() for tag in text.split(",")) if text is not None else ()
