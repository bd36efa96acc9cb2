"""`python -m benchmarks.fleet_plan`: the tables of docs/fleet.md, computed from what one request costs."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.fleet_site import HEAD_BYTES, KIB, MIB, SMALL_BYTES

# Milliseconds of processor time for one request, the last table of `python -m benchmarks fleet`. nginx stands for a
# store and for a CDN.
COSTS = {
    "login by a secret": 1.1,
    "login by a password": 103.0,
    "fragment": 1.1,
    "head": 1.2,
    "small part": 1.2,
    "big part": 5.3,
    "big part, nginx": 4.0,
}
BIG_MIB = 8
FLEETS = (100, 1_000, 10_000)
# How fast one device receives, and how many requests a process serves at a time (`serve --threads`).
DEVICE_MBIT = 10
THREADS = 32
HOUR, DAY = 3600, 86_400


@dataclass(frozen=True)
class Job:
    """What one device does within `seconds`: the number of its requests by kind, and the MiB of its big objects."""

    name: str
    seconds: int
    fragments: int = 0
    heads: int = 0
    small_parts: int = 0
    big_objects: int = 0
    big_mib: float = 0.0
    logins: int = 1

    @property
    def requests(self) -> int:
        """All requests at the API; a redirect to a store is one of them."""
        return self.logins + self.fragments + self.heads + self.small_parts + self.big_objects

    @property
    def own_mib(self) -> float:
        """The MiB that always come from the API itself."""
        return (self.heads * HEAD_BYTES + self.small_parts * SMALL_BYTES) / MIB

    @property
    def store_ms(self) -> float:
        """The processor time at the store or CDN that serves big objects."""
        return self.big_mib * COSTS["big part, nginx"] / BIG_MIB

    def api_ms(self, *, serves_big: bool, login: str = "login by a secret") -> float:
        """The processor time at the API, which serves big objects itself or redirects to a store."""
        small = self.fragments * COSTS["fragment"] + self.heads * COSTS["head"] + self.small_parts * COSTS["small part"]
        big = self.big_objects * COSTS["head"] + (self.big_mib * per_mib_ms() if serves_big else 0.0)
        return self.logins * COSTS[login] + small + big


JOBS = (
    Job("50 model loads an hour, big parts in the cache", HOUR, small_parts=50),
    Job("update of 20 MiB within an hour", HOUR, fragments=1, heads=1, big_objects=4, big_mib=20),
    Job("release of 1 GiB within a day", DAY, fragments=1, heads=1, big_objects=30, big_mib=1024),
    Job("all start within a minute, with 8 MiB each", 60, 1, 1, 8, 1, BIG_MIB),
)


def per_mib_ms() -> float:
    """Return the processor time for each MiB that the API sends."""
    return (COSTS["big part"] - COSTS["small part"]) / (BIG_MIB - SMALL_BYTES / MIB)


def mbit(mib: float, seconds: float) -> float:
    """Return the bandwidth of `mib` MiB in `seconds`, in 10^6 bits a second."""
    return mib * MIB * 8 / seconds / 1e6


def busy_threads(job: Job, devices: int) -> float:
    """Return how many threads of the API send big objects at a time, on the links of the devices."""
    return devices * mbit(job.big_mib, job.seconds) / DEVICE_MBIT


def tables() -> str:
    """Return the tables in Markdown."""
    return "\n\n".join("\n".join(table) for table in (_costs(), _jobs(), *map(_fleet, FLEETS), _logins()))


def _costs() -> list[str]:
    rows = [f"| {kind} | {cost} ms |" for kind, cost in COSTS.items()]
    return [
        "| one request | processor time |",
        "|---|---|",
        *rows,
        f"| each MiB from the API | {per_mib_ms():.2f} ms |",
    ]


def _jobs() -> list[str]:
    rows = [
        f"| {job.name} | {job.requests} | {job.own_mib * MIB / KIB:.0f} KiB | {job.big_mib:.0f} MiB "
        f"| {_figure(job.api_ms(serves_big=True))} ms | {_figure(job.api_ms(serves_big=False))} ms "
        f"| {_figure(job.store_ms)} ms |"
        for job in JOBS
    ]
    return [
        "| one device | requests | from the API | big objects | API that serves all | API with a store | the store |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]


def _fleet(devices: int) -> list[str]:
    rows = []
    for job in JOBS:
        own, big = (mbit(devices * mib, job.seconds) for mib in (job.own_mib, job.big_mib))
        all_cores, few_cores, store_cores = (
            100 * devices * ms / 1000 / job.seconds
            for ms in (job.api_ms(serves_big=True), job.api_ms(serves_big=False), job.store_ms)
        )
        rows.append(
            f"| {job.name} | {_figure(devices * job.requests / job.seconds)} | {_figure(own)} | {_figure(big)} "
            f"| {_figure(all_cores)} % | {_figure(busy_threads(job, devices))} | {_figure(few_cores)} % "
            f"| {_figure(store_cores)} % |"
        )
    return [
        f"| {devices:,} devices | requests/s | Mbit/s, API | Mbit/s, big objects "
        "| API that serves all | its threads | API with a store | the store |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
    ]


def _logins() -> list[str]:
    rows = [
        f"| {devices:,} | {_figure(devices * COSTS['login by a secret'] / 1000)} s "
        f"| {_figure(devices * COSTS['login by a password'] / 1000)} s |"
        for devices in FLEETS
    ]
    return ["| logins | processor time, secrets | passwords |", "|---|---|---|", *rows]


def _figure(value: float) -> str:
    """Return two significant digits, without an exponent; all digits of what is above 100."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{float(f'{value:.2g}'):g}"


if __name__ == "__main__":
    print(tables())
