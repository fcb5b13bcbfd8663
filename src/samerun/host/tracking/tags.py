"""W&B tags: parsing and W&B's rule for them."""

from samerun.core import contract
from samerun.core.errors import TagError


def check_tag(tag: str) -> None:
    """Refuse a tag that ``wandb.init`` would refuse: W&B allows 1 to 64 characters."""
    if not tag.strip():
        raise TagError("A tag is empty.", "Write --tags a,b without spaces or double commas.")
    if not tag.isprintable():
        raise TagError(f"The tag {tag!r} holds a control character.", "Use printable characters.")
    if len(tag) > contract.TAG_LIMIT:
        raise TagError(
            f"The tag {tag!r} has {len(tag)} characters.",
            f"Shorten it: W&B allows up to {contract.TAG_LIMIT}.",
        )


def split_tags(text: str | None) -> tuple[str, ...]:
    """Split ``a,b`` into tags; keep empty ones, which `check_tag` refuses."""
    return tuple(tag.strip() for tag in text.split(",")) if text is not None else ()
