"""How objects share pixels, and how the preview looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magicgui.widgets import CheckBox, ComboBox, Container, FloatSlider

if TYPE_CHECKING:
    from collections.abc import Callable

RULES = (
    ("Keep what is there", "keep"),
    ("Overwrite", "overwrite"),
    ("Only background", "background"),
)


class OptionsPanel(Container):  # type: ignore[type-arg]
    """A form: the commit rule, and the opacity and outline of the preview."""

    def __init__(
        self,
        on_rule: Callable[[str], object],
        on_preview: Callable[[float, bool], object],
        on_switch: Callable[[bool], object],
        *,
        opacity: float = 0.6,
        outline: bool = False,
        rule: str = "keep",
        switches_tools: bool = True,
    ) -> None:
        self.rule = ComboBox(
            choices=RULES,
            value=rule,
            label="Where objects meet",
            tooltip="Whose the pixels are that already have a label when an object is committed",
        )
        self.opacity = FloatSlider(
            value=opacity,
            min=0,
            max=1,
            step=0.05,
            label="Preview opacity",
            tooltip="How much of the image the preview hides; 0 is invisible",
        )
        self.outline = CheckBox(
            value=outline, label="Outline only", tooltip="Show the edge of the preview only"
        )
        self.switch = CheckBox(
            value=switches_tools,
            label="Switch tools by itself",
            tooltip="Take the click tool after a box, and the box tool after a commit",
        )
        super().__init__(widgets=[self.rule, self.opacity, self.outline, self.switch])
        self.margins = (0, 0, 0, 0)
        self.rule.changed.connect(on_rule)
        self.switch.changed.connect(on_switch)
        for field in (self.opacity, self.outline):
            field.changed.connect(lambda: on_preview(self.opacity.value, self.outline.value))
