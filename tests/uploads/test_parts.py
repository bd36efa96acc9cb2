"""Which bytes of a growing file are sent next, and in parts of which size."""

from __future__ import annotations

import random

import pytest

from loader.uploads.parts import SHARE, Part, PartPlan

KIB = 1 << 10
SMALLEST, LARGEST = 64 * KIB, 512 * KIB
SIZES = [1, SMALLEST - 1, SMALLEST, SMALLEST + 1, 3 * SMALLEST, 100 * SMALLEST + 7]


def send_all(plan: PartPlan, size: int) -> list[Part]:
    sent = []
    while (part := plan.take(size, whole=True)) is not None:
        plan.acknowledge(part, f"etag {part.number}")
        sent.append(part)
    return sent


def require_whole(parts: list[Part], size: int) -> None:
    assert [part.begin for part in parts] == [0, *(part.end for part in parts[:-1])]
    assert parts[-1].end == size
    numbers = [part.number for part in parts]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("size", SIZES)
def test_the_parts_are_the_whole_file(size: int) -> None:
    plan = PartPlan(SMALLEST, LARGEST)
    require_whole(send_all(plan, size), size)
    assert plan.sent == size
    assert plan.arrived() == [(part, f"etag {part.number}") for part in send_all(PartPlan(SMALLEST, LARGEST), size)]


@pytest.mark.parametrize("size", SIZES)
def test_parts_of_one_size_have_consecutive_numbers(size: int) -> None:
    parts = send_all(PartPlan(SMALLEST, SMALLEST), size)
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert {part.size for part in parts[:-1]} <= {SMALLEST}


def test_a_part_has_at_most_a_share_of_what_arrived_since_the_last_cut() -> None:
    plan, since_cut, largest = PartPlan(SMALLEST, LARGEST), 0, 0
    for number in range(1000):
        part = plan.take(1 << 40, whole=False)
        assert part is not None
        assert SMALLEST <= part.size <= max(SMALLEST, since_cut // SHARE)
        assert plan.next_numbers(part, 2)[1] == part.end // SMALLEST + 1
        largest = max(largest, part.size)
        if number == 500:
            plan.give_back(part)
            since_cut = 0
        else:
            plan.acknowledge(part, "etag")
            since_cut += part.size
    assert largest == LARGEST


def test_nothing_is_ready_before_a_part_is_written_or_the_file_is_whole() -> None:
    plan = PartPlan(SMALLEST, LARGEST)
    assert plan.take(SMALLEST - 1, whole=False) is None
    assert plan.take(0, whole=True) is None
    assert plan.take(SMALLEST, whole=False) == Part(1, 0, SMALLEST)
    assert plan.take(SMALLEST + 1, whole=False) is None
    assert plan.take(SMALLEST + 1, whole=True) == Part(2, SMALLEST, SMALLEST + 1)


@pytest.mark.parametrize("seed", range(20))
def test_the_file_is_sent_whole_whatever_is_cut(seed: int) -> None:
    chance, plan = random.Random(seed), PartPlan(SMALLEST, LARGEST)  # noqa: S311  # chooses cuts
    size = chance.randrange(1, 300 * SMALLEST)
    flying: list[Part] = []
    while plan.sent < size:
        if len(flying) < 2 and (part := plan.take(size, whole=True)) is not None:
            flying.append(part)
            continue
        part = flying.pop(chance.randrange(len(flying)))
        if chance.random() < 0.2:
            plan.give_back(part)
        else:
            plan.acknowledge(part, "etag")
    require_whole([part for part, _ in plan.arrived()], size)


def test_a_part_that_arrived_otherwise_is_sent_again() -> None:
    plan = PartPlan(SMALLEST, LARGEST)
    first, *_ = send_all(plan, 3 * SMALLEST)
    plan.give_back(first)
    assert plan.sent == 2 * SMALLEST
    assert send_all(plan, 3 * SMALLEST) == [first]
    assert plan.sent == 3 * SMALLEST
