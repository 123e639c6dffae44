import math
from xml.etree import ElementTree

import pytest

from sg_ray.report.charts import HEIGHT, WIDTH, Series, chart, scale, strip, strip_scale, tick_text


def drawn(*series: Series, **settings) -> ElementTree.Element:
    axes = {"label": "a", "x_label": "x", "y_label": "y", **settings}
    return ElementTree.fromstring(chart(series, **axes))


def line_points(svg: ElementTree.Element) -> list[tuple[float, float]]:
    text = svg.find("polyline").get("points")
    return [tuple(map(float, pair.split(","))) for pair in text.split()]


def test_a_scale_maps_its_ends_and_holds_what_lies_outside():
    positions = scale([0.0, 10.0], 100, 200, pad=0)
    assert [positions(v) for v in (0, 5, 10, 99)] == [100, 150, 200, 200]


def test_a_logarithmic_scale_gives_each_decade_the_same_room():
    positions = scale([1e-6, 1e-2], 0, 100, is_log=True)
    assert [positions(v) for v in (1e-6, 1e-4, 1e-2)] == pytest.approx([0, 50, 100])
    assert positions.ticks() == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2])


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.5], [0.0, 0.0], [math.nan], [1e300, 1e299]])
def test_degenerate_values_have_a_scale(values):
    positions = scale(values, 0, 100)
    assert positions.low < positions.high
    assert len(positions.ticks()) <= 7


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.61, 0.83), (-3, 900), (1e-9, 3e-9)])
def test_ticks_are_round_and_few(low, high):
    ticks = scale([low, high], 0, 1, pad=0).ticks()
    assert 2 <= len(ticks) <= 7
    assert all(low - 1e-12 <= tick <= high + 1e-12 for tick in ticks)


def test_better_is_higher_on_the_page_and_points_stay_inside():
    svg = drawn(Series("s", [(1, 0.5), (2, 0.9)], "best"))
    (x1, y1), (x2, y2) = line_points(svg)
    assert 0 < x1 < x2 < WIDTH
    assert HEIGHT > y1 > y2 > 0


def test_values_above_the_limit_are_drawn_at_the_edge():
    svg = drawn(
        Series("s", [(1e-4, 0.7), (1e-3, 0.6), (1e-2, 1e9)], "other"), x_kind="log", y_limit=1
    )
    heights = [y for _, y in line_points(svg)]
    assert heights[0] - heights[2] > 20
    assert heights[1] > heights[0]


def test_names_are_escaped():
    svg = drawn(Series('<b>"&', [(1, 1), (2, 2)], "best"), label='<i>"')
    assert svg.get("aria-label") == '<i>"'
    assert svg.find("polyline/title").text == '<b>"&'


def test_a_single_epoch_is_a_dot():
    assert drawn(Series("s", [(1, 0.5)], "best")).find("circle") is not None


def test_a_strip_has_a_dot_per_seed_and_says_so():
    positions = strip_scale([0.6, 0.8])
    svg = ElementTree.fromstring(strip({42: 0.7, 7: 0.8}, 0.75, positions, 0.6))
    assert svg.get("aria-label") == "seed 42: 0.7000, seed 7: 0.8000"
    places = [float(dot.get("cx").rstrip("%")) for dot in svg.findall("circle")]
    assert 0 < places[0] < places[1] < 100


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.65, "0.65"), (1e-6, "1e-6"), (0, "0"), (1e5, "1e5"), (0.30000000004, "0.3")],
)
def test_tick_texts_are_short(value, text):
    assert tick_text(value) == text
