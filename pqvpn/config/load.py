"""From a TOML file to a `NodeConfig`, or to all of its errors at once.

Owns the order of work: text, sections, files named in them, cross-checks. Single values are parsed by `schema` and
`fields`; what they refuse is taken out and the rest goes on to the cross-checks, so that one reading shows every error.
"""

import datetime
import os
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pqvpn.config import checks, files, paths
from pqvpn.config._pydantic import ErrorDetails, ValidationError
from pqvpn.config.fields import BadElements, BadValue, parse_name
from pqvpn.config.findings import Findings, Loc
from pqvpn.config.schema import (
    PEERS_HIGHEST,
    SECTIONS,
    BreakersSection,
    CrashReportsSection,
    HealthSection,
    LogSection,
    NodeConfig,
    NodeSection,
    OffloadSection,
    Peer,
    PeerSection,
    RedactSection,
    RestartSection,
    Section,
    SecuritySection,
    TelemetrySection,
    TimersSection,
)
from pqvpn.crypto.secret import Secret
from pqvpn.errors import ConfigError, ConfigErrors
from pqvpn.identity import peer_id
from pqvpn.identity import text as identity_text
from pqvpn.identity.card import Card
from pqvpn.identity.private_key import IdentityKey
from pqvpn.reasons import Reason

SectionType = TypeVar("SectionType", bound=Section)


def load(path: Path, *, today: datetime.date | None = None) -> NodeConfig:
    """Read and validate the configuration at `path`, with the files it names.

    `today` (UTC) is what `degraded_until` is compared with. Raises ConfigErrors with everything that is wrong.
    """
    try:
        encoded = files.read(path, files.CONFIG_LIMIT)
        source = encoded.decode("utf-8")
    except ConfigError as error:
        raise _whole_file(Reason.CONFIG_UNREADABLE, path, error.detail) from None
    except UnicodeDecodeError as error:
        raise _whole_file(Reason.CONFIG_SYNTAX, path, f"it is not UTF-8 at byte {error.start}") from None
    return parse(source, path, today=today)


def parse(source: str, path: Path, *, today: datetime.date | None = None) -> NodeConfig:
    """As `load`, with the text given: what a file at `path` holds or is about to hold."""
    try:
        document = tomllib.loads(source)
    except RecursionError:
        raise _whole_file(Reason.CONFIG_SYNTAX, path, "values are nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, and the interpreter's limit on digits
        raise _whole_file(Reason.CONFIG_SYNTAX, path, str(error)) from None
    findings = Findings(source)
    real = Path(os.path.realpath(path))
    today = today or datetime.datetime.now(datetime.UTC).date()
    _refuse_unknown(findings, document)
    node = _section(findings, ("node",), document.get("node", {}), NodeSection)
    timers = _section(findings, ("timers",), document.get("timers", {}), TimersSection)
    log = _section(findings, ("log",), document.get("log", {}), LogSection)
    redact = _section(findings, ("redact",), document.get("redact", {}), RedactSection)
    telemetry = _section(findings, ("telemetry",), document.get("telemetry", {}), TelemetrySection)
    crash_reports = _section(findings, ("crash_reports",), document.get("crash_reports", {}), CrashReportsSection)
    health = _section(findings, ("health",), document.get("health", {}), HealthSection)
    restart = _section(findings, ("restart",), document.get("restart", {}), RestartSection)
    breakers = _section(findings, ("breakers",), document.get("breakers", {}), BreakersSection)
    security = _section(findings, ("security",), document.get("security", {}), SecuritySection)
    offload = _section(findings, ("offload",), document.get("offload", {}), OffloadSection)
    peers = _peer_sections(findings, document.get("peer", {}))
    _cross_check(findings, node, timers, telemetry, health, peers, today)
    folder = real.parent
    checks.check_breakers(findings, breakers)
    _check_runtime_folder(findings, real, node)
    identity = _identity(findings, folder, node)
    card = identity.card() if identity else None
    network_key = _key(findings, folder, ("node", "network_key_file"), node.network_key_file)
    headers = _text_secret(findings, folder, ("telemetry", "headers_file"), telemetry.headers_file)
    dsn = _text_secret(findings, folder, ("crash_reports", "dsn_file"), crash_reports.dsn_file)
    checks.check_crash_reports(findings, crash_reports, dsn)
    token = _text_secret(findings, folder, ("health", "token_file"), health.token_file)
    resolved = tuple(_peer(findings, folder, name, peer) for name, peer in peers.items())
    ids = [(peer.name, peer.id) for peer in resolved if peer is not None]
    checks.check_identities(findings, ids, card.peer_id if card else None)
    findings.raise_if_any()
    assert identity is not None
    assert card is not None
    return NodeConfig(
        path=real,
        node=node,
        peers=tuple(peer for peer in resolved if peer is not None),
        timers=timers,
        log=log,
        redact=redact,
        telemetry=telemetry,
        crash_reports=crash_reports,
        health=health,
        restart=restart,
        breakers=breakers,
        security=security,
        offload=offload,
        identity=identity,
        card=card,
        network_key=network_key,
        telemetry_headers=headers,
        crash_dsn=dsn,
        health_token=token,
    )


def _whole_file(reason: Reason, path: Path, detail: str) -> ConfigErrors:
    return ConfigErrors((ConfigError(reason, detail, place=str(path)),))


def _cross_check(
    findings: Findings,
    node: NodeSection,
    timers: TimersSection,
    telemetry: TelemetrySection,
    health: HealthSection,
    peers: dict[str, PeerSection],
    today: datetime.date,
) -> None:
    checks.check_node(findings, node)
    checks.check_timers(findings, timers)
    checks.check_telemetry(findings, telemetry)
    checks.check_health(findings, health)
    for name, peer in peers.items():
        checks.check_peer(findings, name, peer, node, today)
    checks.check_overlaps(findings, peers)
    checks.check_endpoints(findings, node, peers)


# -- sections ---------------------------------------------------------------------------------------------------


def _refuse_unknown(findings: Findings, document: dict[str, Any]) -> None:
    """Top-level names that are no section."""
    names = (*SECTIONS, "peer")
    for name in document:
        if name not in names:
            findings.add(Reason.CONFIG_UNKNOWN_KEY, (name,), *_unknown(name, names))


def _unknown(name: str, names: tuple[str, ...]) -> tuple[str, str]:
    """Detail and remedy for a name that is none of `names`."""
    import difflib  # only when there is something to tell

    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    elsewhere = [section for section, model in SECTIONS.items() if name in model.model_fields]
    if name in PeerSection.model_fields:
        elsewhere.append("peer.NAME")
    if near:
        return f"there is no {name!r} here; did you mean {near[0]!r}?", f"write {near[0]!r}, or remove it"
    if elsewhere:
        return f"there is no {name!r} here, it belongs into [{elsewhere[0]}]", f"move it to [{elsewhere[0]}]"
    return f"there is no {name!r} here", f"remove it; known here: {', '.join(sorted(names))}"


def _peer_sections(findings: Findings, raw: Any) -> dict[str, PeerSection]:
    if not isinstance(raw, dict):
        findings.add(Reason.CONFIG_VALUE, ("peer",), "expected tables", "write [peer.NAME] and the settings below")
        return {}
    if len(raw) > PEERS_HIGHEST:
        findings.add(Reason.CONFIG_VALUE, ("peer",), f"{len(raw)} peers are more than {PEERS_HIGHEST}")
    peers = {}
    for name, section in raw.items():
        try:
            parse_name(name)
        except BadValue as error:
            findings.add(error.reason, ("peer", name), str(error), error.remedy)
        if isinstance(section, dict) or name not in PeerSection.model_fields:
            peers[name] = _section(findings, ("peer", name), section, PeerSection)
        else:
            detail = f"[peer] holds the setting {name!r} of an unnamed peer"
            findings.add(Reason.CONFIG_VALUE, ("peer", name), detail, "write [peer.NAME] above it")
    return peers


def _section(findings: Findings, loc: Loc, raw: Any, model: type[SectionType]) -> SectionType:
    """The section as far as its settings are good; what is bad is recorded and left at its default."""
    if not isinstance(raw, dict):
        remedy = f"write [{'.'.join(str(part) for part in loc)}] on a line of its own"
        findings.add(Reason.CONFIG_VALUE, loc, "expected a table", remedy)
        raw = {}
    else:
        for name in model.required:
            if name not in raw:
                findings.add(Reason.CONFIG_MISSING, (*loc, name), "it is required")
    try:
        return model.model_validate(raw)
    except ValidationError as errors:
        bad: set[str] = set()
        good = dict(raw)
        for error in errors.errors(include_url=False, include_input=False):
            name = str(error["loc"][0])
            bad.add(name)
            good[name] = _record(findings, loc, error, model, raw[name])
        return _of_rest(model, good, bad)


def _of_rest(model: type[SectionType], good: dict[str, Any], bad: set[str]) -> SectionType:
    """The section without what was refused: of `bad` settings only arrays that are acceptable without bad elements."""
    try:
        return model.model_validate({name: value for name, value in good.items() if name not in bad or value})
    except ValidationError:
        return model.model_validate({name: value for name, value in good.items() if name not in bad})


def _record(findings: Findings, loc: Loc, error: ErrorDetails, model: type[Section], value: Any) -> Any:
    """Record what pydantic found; answer what is left of the value: an array's good elements, else None."""
    place = (*loc, *error["loc"])
    cause = error.get("ctx", {}).get("error")
    if error["type"] == "extra_forbidden":
        detail, remedy = _unknown(str(error["loc"][0]), tuple(model.model_fields))
        findings.add(Reason.CONFIG_UNKNOWN_KEY, place, detail, remedy)
    elif isinstance(cause, BadElements):
        findings.leave_out(place, cause.bad)
        for index, why in cause.bad.items():
            findings.add(why.reason, (*place, index), str(why), why.remedy)
        return [element for index, element in enumerate(value) if index not in cause.bad]
    elif isinstance(cause, BadValue):
        findings.add(cause.reason, place, str(cause), cause.remedy)
    else:
        message = error["msg"].removeprefix("Input ")
        findings.add(Reason.CONFIG_VALUE, place, f"the value {message}")
    return None


# -- files named in the configuration ---------------------------------------------------------------------------


def _check_runtime_folder(findings: Findings, path: Path, node: NodeSection) -> None:
    socket = paths.control_socket(paths.runtime_folder(path, node.runtime_dir))
    if len(os.fsencode(socket)) > paths.SOCKET_PATH_LIMIT:
        detail = f"the control socket's path {socket} is longer than {paths.SOCKET_PATH_LIMIT} bytes"
        findings.add(Reason.CONFIG_VALUE, ("node", "runtime_dir"), detail, "give a shorter runtime_dir")


def _identity(findings: Findings, folder: Path, node: NodeSection) -> IdentityKey | None:
    loc: Loc = ("node", "private_key")
    path = folder / node.private_key
    try:
        files.check_folder(path.parent)
    except ConfigError as error:
        findings.take(loc, error)
    try:
        return IdentityKey.decode(Secret(files.read(path, private=True)))
    except ConfigError as error:
        findings.take(loc, error)
        return None


def _key(findings: Findings, folder: Path, loc: Loc, name: str | None) -> Secret | None:
    if name is None:
        return None
    try:
        return files.read_key(folder / name)
    except ConfigError as error:
        findings.take(loc, error)
        return None


def _text_secret(findings: Findings, folder: Path, loc: Loc, name: str | None) -> Secret | None:
    """The content of a file of mode 0600, without white space around it."""
    if name is None:
        return None
    try:
        content = files.read(folder / name, private=True).strip()
    except ConfigError as error:
        findings.take(loc, error)
        return None
    if not content or not content.isascii():
        findings.add(Reason.CONFIG_FILE, loc, f"{folder / name} is empty or not ASCII")
        return None
    return Secret(content)


def read_card(folder: Path, value: str) -> Card:
    """The card of a `card` setting: the line itself, or a file. Raises ConfigError without a place."""
    if value.startswith(identity_text.LINE_PREFIX):
        return identity_text.card_from_text(value)
    try:
        return identity_text.card_from_text(files.read(folder / value).decode("ascii"))
    except UnicodeDecodeError:
        raise ConfigError(Reason.CARD_MALFORMED, f"{folder / value} is not text") from None


def _peer(findings: Findings, folder: Path, name: str, section: PeerSection) -> Peer | None:
    loc: Loc = ("peer", name)
    psk = _key(findings, folder, (*loc, "psk_file"), section.psk_file)
    wanted = _configured_id(findings, (*loc, "id"), section.id)
    if not section.card:
        return None
    try:
        card = read_card(folder, section.card)
    except ConfigError as error:
        findings.take((*loc, "card"), error)
        return None
    if wanted is not None and wanted != card.peer_id:
        detail = f"the card is the one of {peer_id.to_text(card.peer_id)}"
        findings.add(Reason.CONFIG_CARD_ID, (*loc, "id"), detail)
    return Peer(
        name=name,
        id=card.peer_id,
        card=card,
        endpoint=section.endpoint,
        allowed_ips=section.allowed_ips,
        psk=psk,
        keepalive=section.keepalive,
        trace=section.trace,
        allow_degraded=bool(section.allow_degraded),
        degraded_until=section.degraded_until,
    )


def _configured_id(findings: Findings, loc: Loc, value: str | None) -> bytes | None:
    if value is None:
        return None
    try:
        return peer_id.from_text(value)
    except ConfigError as error:
        findings.take(loc, error)
        return None
