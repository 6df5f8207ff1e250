"""Whole nodes through seeded storms: loss, duplicates, reordering, corruption, replay, partitions, crashes, new addresses.

Invariants are checked by `simnet` at every step. Afterwards the weather clears, and everybody must reach everybody within
the protocol's own timers. A failing seed is printed; run it again with `pytest tests/sim --sim-seed N`.
"""

import random
import traceback

import pytest
from simnet import Node, Weather, World, address_of, mesh

from pqvpn.protocol.settings import Timers

SLACK = 2.0


def scaled(factor: float) -> Timers:
    """All times but those of the network itself, shorter."""
    t = Timers()
    return Timers(
        rekey_after=t.rekey_after * factor, rekey_initiator_after=t.rekey_initiator_after * factor,
        rekey_jitter=t.rekey_jitter * factor, reject_after=t.reject_after * factor,
        replaced_receives=t.replaced_receives * factor, keepalive=t.keepalive * factor, dead=t.dead * factor,
        biscuit_key_rotates=t.biscuit_key_rotates * factor, cookie_secret_rotates=t.cookie_secret_rotates * factor,
    )  # fmt: skip


def recovery_bound(t: Timers) -> float:
    """A dead session is noticed, then at worst one M3 goes unconfirmed and one M1 waits for its successor."""
    return t.dead + t.m3_gives_up + t.m1_fresh_after + t.m1_fresh_jitter + t.keepalive / 5 + SLACK


def bad_weather(chance: random.Random) -> Weather:
    return Weather(
        loss=chance.choice([0.0, 0.05, 0.2, 0.5]),
        duplicate=chance.choice([0.0, 0.1]),
        corrupt=chance.choice([0.0, 0.05]),
        replay=chance.choice([0.0, 0.1]),
        delay=chance.choice([0.001, 0.03, 0.3]),
        jitter=chance.choice([0.0, 0.05, 0.5, 3.0]),
        mtu=chance.choice([1280, 1400, 1500]),
    )


def strike(world: World, nodes: list[Node], step: int) -> None:
    """Something bad happens. Only the first node is mobile: two that both moved could not find each other."""
    chance = world.chance
    node = chance.choice(nodes)
    match chance.randrange(8):
        case 0:
            world.partitioned = True
        case 1:
            node.crash()
        case 2:
            node.crash()
            node.start()
        case 3:
            if node.alive:
                node.restart_control()
        case 4:
            if nodes[0].alive:
                nodes[0].move(address_of(1, 50 + step, nodes[0].address.is_ipv6))
        case 5:
            if node.alive:
                other = chance.choice([p.peer_id for p in node.peer_settings])
                node.do(node.core.want_session(other, world.now, force=True))
        case _:
            world.weather = bad_weather(chance)


def chatter(world: World, nodes: list[Node], every: float) -> None:
    """Everybody talks to everybody, on and on."""

    def talk() -> None:
        for node in nodes:
            for peer in node.peer_settings if node.alive else ():
                node.say(peer.peer_id, b"%.6f from %d" % (world.now, node.number))
        world.after(every * (0.5 + world.chance.random()), talk)

    talk()


def all_connected(world: World, nodes: list[Node], since: float) -> bool:
    """Everybody got something from everybody that was said after `since`."""
    by_id = {n.settings.peer_id: n for n in nodes}
    for node in nodes:
        for peer in node.peer_settings:
            fresh = (m for m in node.inbox.get(peer.peer_id, ()) if float(m.split()[5]) > since)
            if by_id[peer.peer_id] is not node and next(fresh, None) is None:
                return False
    return True


def storm(seed: int) -> None:
    """One run."""
    world = World(seed)
    chance = world.chance
    timers = scaled(chance.choice([0.1, 0.1, 0.1, 0.2, 0.4, 1.0]))
    count = 2 if chance.random() < 0.9 else 3
    node = {"lanes": chance.choice([1, 1, 2]), "aeads": chance.choice([3, 3, 2])}
    peer = {"keepalive": chance.choice([None, None, 25.0 * timers.keepalive / 10])}
    nodes = mesh(world, count, timers, ipv6=chance.random() < 0.3, node=node, peer=peer)
    world.weather = bad_weather(chance)
    chatter(world, nodes, 1.0)
    for step in range(chance.randrange(1, 7)):
        world.run(chance.random() * timers.dead)
        strike(world, nodes, step)
    world.run(chance.random() * 5)
    for one in nodes:
        if not one.alive:
            one.start()
    world.partitioned, world.weather = False, Weather()
    world.run(3.1)  # what flies on still lands, damaged as it is
    healed = world.now
    if not world.run_until(lambda: all_connected(world, nodes, healed), recovery_bound(timers)):
        views = [n.core.peers(world.now) for n in nodes]
        raise AssertionError(f"not connected {world.now - healed:.1f} s after the network healed: {views}")


def test_storms(sim_seeds: list[int]) -> None:
    """A block of seeds."""
    for seed in sim_seeds:
        try:
            storm(seed)
        except Exception:  # noqa: BLE001 - whatever it was, the seed must be told
            place = traceback.format_exc(limit=-4)
            pytest.fail(
                f"seed {seed}; again: pytest tests/sim/test_sim_storms.py --sim-seed {seed}\n{place}", pytrace=False
            )
