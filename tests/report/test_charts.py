import math
from xml.etree import ElementTree

import pytest

from sg_ray.report.page.charts.bars import Part, stacked_bar
from sg_ray.report.page.charts.line_chart import HEIGHT, WIDTH, Axis, Series, line_chart
from sg_ray.report.page.charts.parallel import Coordinate, Thread, parallel_coordinates
from sg_ray.report.page.charts.scales import metric_scale, scale, tick_text
from sg_ray.report.page.charts.strips import (
    Dot,
    Range,
    difference_scale,
    forest_row,
    strip,
    strip_scale,
)
from sg_ray.report.page.charts.svg import element
from sg_ray.report.page.charts.timeline import Span, time_scale, timeline_row


def drawn(*series: Series, **settings) -> ElementTree.Element:
    axes = {"label": "a", "x": Axis("x"), "y": Axis("y"), **settings}
    return ElementTree.fromstring(line_chart(series, **axes))


def line_points(svg: ElementTree.Element) -> list[tuple[float, float]]:
    text = svg.find(".//polyline").get("points")
    return [tuple(map(float, pair.split(","))) for pair in text.split()]


def places(svg: ElementTree.Element, tag: str, name: str) -> list[float]:
    return [float(one.get(name).rstrip("%")) for one in svg.findall(f".//{tag}")]


def test_an_element_escapes_values_and_children():
    made = element("text", "<b>", class_='"a"', text_anchor="end", x=1.239, y=None)
    assert made == '<text class="&#34;a&#34;" text-anchor="end" x="1.24">&lt;b&gt;</text>'


def test_a_scale_maps_its_ends_and_holds_what_lies_outside():
    positions = scale([0.0, 10.0], 100, 200, pad=0)
    assert [positions(v) for v in (0, 5, 10, 99)] == [100, 150, 200, 200]


def test_a_logarithmic_scale_gives_each_decade_the_same_room():
    positions = scale([1e-6, 1e-2], 0, 100, is_log=True)
    assert [positions(v) for v in (1e-6, 1e-4, 1e-2)] == pytest.approx([0, 50, 100])
    assert positions.ticks() == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2])


def test_a_short_logarithmic_scale_has_ticks_within_a_decade():
    assert scale([3e-4, 4.4e-3], 0, 1, is_log=True).ticks() == pytest.approx([5e-4, 1e-3, 2e-3])
    assert scale([3e-4, 4e-4], 0, 1, is_log=True).ticks() == [3e-4, 4e-4]


@pytest.mark.parametrize(
    ("metric", "values", "low", "high"),
    [
        ("val_f1", [0.7, 0.7001], 0.69005, 0.71005),
        ("val_f1", [0.9999, 1.0], 0.98, 1.0),
        ("val_loss", [0.001, 0.002], 0.0, 0.02),
        ("val_loss", [1.0, 1.001], 0.9905, 1.0105),
        ("val_f1", [0.2, 0.8], 0.2, 0.8),
    ],
)
def test_the_axis_of_a_metric_is_never_narrower_than_noise(metric, values, low, high):
    positions = metric_scale(metric, values, 0, 1, pad=0)
    assert (positions.low, positions.high) == pytest.approx((low, high))


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
    svg = drawn(Series("s", [(1, 0.5), (2, 0.9)], "line best"))
    (x1, y1), (x2, y2) = line_points(svg)
    assert 0 < x1 < x2 < WIDTH
    assert HEIGHT > y1 > y2 > 0


def test_values_above_the_limit_are_drawn_at_the_edge():
    points = [(1e-4, 0.7), (1e-3, 0.6), (1e-2, 1e9)]
    svg = drawn(Series("s", points, "line"), x=Axis("x", "log"), y=Axis("y", limit=1))
    heights = [y for _, y in line_points(svg)]
    assert heights[0] - heights[2] > 20
    assert heights[1] > heights[0]


def test_a_flat_curve_stays_flat():
    points = [(1, 0.8), (2, 0.8004), (3, 0.7998)]
    svg = drawn(Series("s", points, "line"), y=Axis("val_f1", metric="val_f1"))
    heights = [y for _, y in line_points(svg)]
    assert max(heights) - min(heights) < 0.05 * HEIGHT


def test_counts_have_no_ticks_between():
    svg = drawn(Series("s", [(1, 0), (2, 1)], "line"), x=Axis("x", "count"))
    assert {"1", "2"} <= {text.text for text in svg.findall("text")}
    assert "1.5" not in {text.text for text in svg.findall("text")}


def test_names_are_escaped():
    svg = drawn(Series('<b>"&', [(1, 1), (2, 2)], "line"), label='<i>"')
    assert svg.get("aria-label") == '<i>"'
    assert svg.find("g/title").text == '<b>"&'


def test_a_single_epoch_is_a_dot_and_a_dropped_one_ends_with_a_cross():
    svg = drawn(Series("s", [(1, 0.5)], "line", ends_with_cross=True))
    assert svg.find(".//circle") is not None
    assert svg.find(".//path").get("class") == "cross"


def test_a_strip_has_a_dot_per_seed_and_says_so():
    positions = strip_scale("val_f1", [0.6, 0.8])
    dots = [Dot(42, 0.7, is_fresh=False), Dot(7, 0.8)]
    svg = ElementTree.fromstring(
        strip(dots, positions, mean=0.8, interval=Range(0.72, 0.8), floor=0.6)
    )
    assert svg.get("aria-label") == (
        "seed 42 (of the search): 0.7000, seed 7: 0.8000; interval 0.7200-0.8000"
    )
    first, second = places(svg, "circle", "cx")
    assert 0 < first < second < 100
    assert [dot.get("class") for dot in svg.findall("circle")] == ["searched", "fresh"]
    assert svg.find("line[@class='floor-line']").get("x1") == f"{positions(0.6):.2f}%"


def test_a_forest_row_shows_both_ends_and_no_difference():
    positions = difference_scale([-0.02, 0.06], 0.01)
    svg = ElementTree.fromstring(forest_row(Range(-0.02, 0.06), 0.02, positions))
    whisker = svg.find("line[@class='interval']")
    zero = float(svg.find("line[@class='zero']").get("x1").rstrip("%"))
    low, high = (float(whisker.get(end).rstrip("%")) for end in ("x1", "x2"))
    (middle,) = places(svg, "circle", "cx")
    assert low < zero < middle < high
    assert svg.get("aria-label") == "difference +0.0200, interval -0.0200 to +0.0600"


def test_tiny_differences_do_not_fill_a_forest_plot():
    positions = difference_scale([0.0001, 0.0002], 0.01)
    assert abs(positions(0.0002) - positions(0)) < 2


def test_a_line_of_parallel_coordinates_meets_each_axis_at_its_value():
    coordinates = [
        Coordinate("rate", [1e-4, 1e-2], is_log=True),
        Coordinate("layer", ["a", "b"], choices=["a", "b"]),
        Coordinate("val_f1", [0.5, 0.9], is_metric=True),
    ]
    good = {"rate": 1e-2, "layer": "b", "val_f1": 0.9}
    threads = [Thread("good", good, 1.0), Thread("cut", {"rate": 1e-4, "layer": "a"}, None)]
    svg = ElementTree.fromstring(parallel_coordinates(coordinates, threads, label="p"))
    cut, best = svg.findall("polyline")  # the best is drawn last, on top
    assert (cut.get("class"), best.get("class")) == ("thread cut", "thread shade-4")
    assert len(cut.get("points").split()) == 2
    heights = [float(pair.split(",")[1]) for pair in best.get("points").split()]
    assert heights == pytest.approx([one.place(good[one.name]) for one in coordinates], abs=0.1)
    assert coordinates[0].place(1e-3) == pytest.approx(
        (coordinates[0].place(1e-4) + coordinates[0].place(1e-2)) / 2
    )


def test_parts_of_a_bar_follow_each_other():
    svg = ElementTree.fromstring(stacked_bar([Part("a", 1, "p"), Part("b", 3, "p")], 8, label="x"))
    assert places(svg, "rect", "x") == [0, 12.5]
    assert places(svg, "rect", "width") == [12.5, 37.5]


def test_trials_at_the_same_time_are_drawn_below_each_other():
    spans = [Span("a", 0, 4, "p"), Span("b", 1, 3, "p"), Span("c", 5, 6, "p")]
    svg = ElementTree.fromstring(timeline_row(spans, time_scale(10), label="t"))
    first, second, third = places(svg, "rect", "y")
    assert first == third < second
    assert places(svg, "rect", "x") == [0, 10, 50]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.65, "0.65"), (1e-6, "1e-6"), (0, "0"), (1e5, "1e5"), (0.30000000004, "0.3")],
)
def test_tick_texts_are_short(value, text):
    assert tick_text(value) == text
