"""A small ODX document, as authoring tools write them: one base variant ECM, one variant of it, and their PDX."""

import zipfile
from pathlib import Path

_DOC = '<?xml version="1.0" encoding="UTF-8"?>\n<ODX MODEL-VERSION="2.2.0">{}</ODX>'


def _dop(name: str, base: str, bits: int, method: str = "", unit: str = "", physical: str = "", order: str = "") -> str:
    compu = method or "<COMPU-METHOD><CATEGORY>IDENTICAL</CATEGORY></COMPU-METHOD>"
    return f"""
    <DATA-OBJECT-PROP ID="DOP.{name}"><SHORT-NAME>{name}</SHORT-NAME>{compu}
      <DIAG-CODED-TYPE BASE-DATA-TYPE="{base}" xsi:type="STANDARD-LENGTH-TYPE" {order}
        xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><BIT-LENGTH>{bits}</BIT-LENGTH></DIAG-CODED-TYPE>
      <PHYSICAL-TYPE BASE-DATA-TYPE="{physical or base}"/>{f'<UNIT-REF ID-REF="UNIT.{unit}"/>' if unit else ""}
    </DATA-OBJECT-PROP>"""


def _linear(offset: float, factor: float) -> str:
    return f"""<COMPU-METHOD><CATEGORY>LINEAR</CATEGORY><COMPU-INTERNAL-TO-PHYS><COMPU-SCALES><COMPU-SCALE>
      <COMPU-RATIONAL-COEFFS><COMPU-NUMERATOR><V>{offset}</V><V>{factor}</V></COMPU-NUMERATOR>
      <COMPU-DENOMINATOR><V>1</V></COMPU-DENOMINATOR></COMPU-RATIONAL-COEFFS>
      </COMPU-SCALE></COMPU-SCALES></COMPU-INTERNAL-TO-PHYS></COMPU-METHOD>"""


def _texts(*scales: tuple[int, int, str]) -> str:
    inside = "".join(
        f"<COMPU-SCALE><LOWER-LIMIT>{low}</LOWER-LIMIT><UPPER-LIMIT>{high}</UPPER-LIMIT>"
        f"<COMPU-CONST><VT>{text}</VT></COMPU-CONST></COMPU-SCALE>"
        for low, high, text in scales
    )
    return (
        "<COMPU-METHOD><CATEGORY>TEXTTABLE</CATEGORY><COMPU-INTERNAL-TO-PHYS><COMPU-SCALES>"
        f"{inside}</COMPU-SCALES></COMPU-INTERNAL-TO-PHYS></COMPU-METHOD>"
    )


def _const(value: int, byte: int, bits: int = 8) -> str:
    return f"""<PARAM xsi:type="CODED-CONST" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
      <SHORT-NAME>const_{byte}</SHORT-NAME><BYTE-POSITION>{byte}</BYTE-POSITION><CODED-VALUE>{value}</CODED-VALUE>
      <DIAG-CODED-TYPE BASE-DATA-TYPE="A_UINT32" xsi:type="STANDARD-LENGTH-TYPE"><BIT-LENGTH>{bits}</BIT-LENGTH>
      </DIAG-CODED-TYPE></PARAM>"""


def _value(name: str, dop: str, byte: int | None = None, bit: int | None = None) -> str:
    position = "" if byte is None else f"<BYTE-POSITION>{byte}</BYTE-POSITION>"
    position += "" if bit is None else f"<BIT-POSITION>{bit}</BIT-POSITION>"
    return f"""<PARAM xsi:type="VALUE" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
      <SHORT-NAME>{name}</SHORT-NAME>{position}<DOP-REF ID-REF="DOP.{dop}"/></PARAM>"""


def _service(name: str, request: str, response: str) -> tuple[str, str, str]:
    return (
        f'<DIAG-SERVICE ID="S.{name}"><SHORT-NAME>{name}</SHORT-NAME><REQUEST-REF ID-REF="RQ.{name}"/>'
        f'<POS-RESPONSE-REFS><POS-RESPONSE-REF ID-REF="PR.{name}"/></POS-RESPONSE-REFS></DIAG-SERVICE>',
        f'<REQUEST ID="RQ.{name}"><SHORT-NAME>RQ_{name}</SHORT-NAME><PARAMS>{request}</PARAMS></REQUEST>',
        f'<POS-RESPONSE ID="PR.{name}"><SHORT-NAME>PR_{name}</SHORT-NAME><PARAMS>{response}</PARAMS></POS-RESPONSE>',
    )


def _read(name: str, did: int, *values: str) -> tuple[str, str, str]:
    return _service(name, _const(0x22, 0) + _const(did, 1, 16), _const(0x62, 0) + _const(did, 1, 16) + "".join(values))


_INTEL = 'IS-HIGHLOW-BYTE-ORDER="false"'
_VARIABLE = """
    <DATA-OBJECT-PROP ID="DOP.Log"><SHORT-NAME>Log</SHORT-NAME>
      <COMPU-METHOD><CATEGORY>IDENTICAL</CATEGORY></COMPU-METHOD>
      <DIAG-CODED-TYPE BASE-DATA-TYPE="A_BYTEFIELD" xsi:type="MIN-MAX-LENGTH-TYPE" TERMINATION="END-OF-PDU"
        xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><MAX-LENGTH>20</MAX-LENGTH><MIN-LENGTH>1</MIN-LENGTH>
      </DIAG-CODED-TYPE><PHYSICAL-TYPE BASE-DATA-TYPE="A_BYTEFIELD"/></DATA-OBJECT-PROP>"""
_DTCS = """<DTC-DOPS><DTC-DOP ID="DTCDOP"><SHORT-NAME>codes</SHORT-NAME>
    <DIAG-CODED-TYPE BASE-DATA-TYPE="A_UINT32" xsi:type="STANDARD-LENGTH-TYPE"
      xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><BIT-LENGTH>24</BIT-LENGTH></DIAG-CODED-TYPE>
    <PHYSICAL-TYPE BASE-DATA-TYPE="A_UINT32"/><COMPU-METHOD><CATEGORY>IDENTICAL</CATEGORY></COMPU-METHOD>
    <DTCS><DTC ID="DTC.1"><SHORT-NAME>misfire</SHORT-NAME><TROUBLE-CODE>196864</TROUBLE-CODE>
      <TEXT>Cylinder 1 misfire</TEXT></DTC>
      <DTC ID="DTC.2"><SHORT-NAME>lost</SHORT-NAME><TROUBLE-CODE>12648465</TROUBLE-CODE><TEXT>No ECM</TEXT></DTC>
    </DTCS></DTC-DOP></DTC-DOPS>"""


def _layers() -> str:
    dops = [
        _dop("Vin", "A_ASCIISTRING", 24, physical="A_UNICODE2STRING"),
        _dop("Speed", "A_UINT32", 16, _linear(0, 0.25), "rpm", "A_FLOAT64"),
        _dop("Temp", "A_UINT32", 8, _linear(-40, 1), "degC", "A_INT32"),
        _dop("Mode", "A_UINT32", 3, _texts((0, 0, "Off"), (1, 1, "Run"), (2, 7, "Reserved")), "", "A_UNICODE2STRING"),
        _dop("Flag", "A_UINT32", 1),
        _dop("Count", "A_UINT32", 16, order=_INTEL),
        _dop("Address", "A_UINT32", 32),
        _dop("Result", "A_UINT32", 8, _texts((0, 0, "done"), (1, 1, "failed")), "", "A_UNICODE2STRING"),
        _VARIABLE,
    ]
    services = [
        _read("VIN_Read", 0xF190, _value("VIN", "Vin", 3)),
        _read("Read_Engine_State", 0x0100, _value("Speed", "Speed", 3), _value("Mode", "Mode", 5, 4),
              _value("Fault", "Flag", 5, 0), _value("Count", "Count", 6), _value("Temp", "Temp")),
        _read("Read_Log", 0x0200, _value("Log", "Log", 3)),
        _read("Read_Speed", 0x0101, _value("Speed", "Speed", 3)),
        _read("Read_Speed_Again", 0x0101, _value("Speed", "Speed", 3)),
        _service("Write_VIN", _const(0x2E, 0) + _const(0xF190, 1, 16) + _value("VIN", "Vin", 3), _const(0x6E, 0)),
        _service("Write_Target", _const(0x2E, 0) + _const(0x0102, 1, 16) + _value("Target", "Speed", 3),
                 _const(0x6E, 0)),
        _service("Start_Erase", _const(0x31, 0) + _const(1, 1) + _const(0xFF00, 2, 16) + _value("address", "Address", 4)
                 + _value("size", "Address", 8), _const(0x71, 0) + _value("result", "Result", 4)),
        _service("Erase_Request_Results", _const(0x31, 0) + _const(3, 1) + _const(0xFF00, 2, 16),
                 _const(0x71, 0) + _value("result", "Result", 4)),
        _service("Session", _const(0x10, 0) + _const(3, 1), _const(0x50, 0)),
    ]  # fmt: skip
    comms, requests, responses = ("".join(part) for part in zip(*services, strict=True))
    return f"""<DIAG-LAYER-CONTAINER ID="DLC"><SHORT-NAME>vehicle</SHORT-NAME><BASE-VARIANTS><BASE-VARIANT ID="ECM">
      <SHORT-NAME>ECM</SHORT-NAME><DIAG-DATA-DICTIONARY-SPEC>{_DTCS}<DATA-OBJECT-PROPS>{"".join(dops)}
      </DATA-OBJECT-PROPS><UNIT-SPEC><UNITS>
      <UNIT ID="UNIT.rpm"><SHORT-NAME>rpm</SHORT-NAME><DISPLAY-NAME>rpm</DISPLAY-NAME></UNIT>
      <UNIT ID="UNIT.degC"><SHORT-NAME>degC</SHORT-NAME><DISPLAY-NAME>°C</DISPLAY-NAME></UNIT>
      </UNITS></UNIT-SPEC></DIAG-DATA-DICTIONARY-SPEC><DIAG-COMMS>{comms}</DIAG-COMMS><REQUESTS>{requests}</REQUESTS>
      <POS-RESPONSES>{responses}</POS-RESPONSES></BASE-VARIANT></BASE-VARIANTS>
      <ECU-VARIANTS><ECU-VARIANT ID="ECM_V2"><SHORT-NAME>ECM_V2</SHORT-NAME><PARENT-REFS>
      <PARENT-REF ID-REF="ECM" xsi:type="BASE-VARIANT-REF" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"/>
      </PARENT-REFS></ECU-VARIANT></ECU-VARIANTS></DIAG-LAYER-CONTAINER>"""


def write_odx(folder: Path) -> Path:
    """The document as .odx-d."""
    path = folder / "vehicle.odx-d"
    path.write_text(_DOC.format(_layers()), encoding="utf-8")
    return path


def write_pdx(folder: Path) -> Path:
    """The same, packed, with a file that is no ODX."""
    path = folder / "vehicle.pdx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("vehicle.odx-d", _DOC.format(_layers()))
        archive.writestr("readme.txt", "hello")
    return path


CDD = """<?xml version="1.0" encoding="utf-8"?>
<CANDELA><ECUDOC><DATATYPES>
  <LINCOMP id="t1"><NAME><TUV>Speed</TUV></NAME><QUAL>Speed</QUAL><CVALUETYPE bl="16" bo="21" enc="uns" minsz="1"
    maxsz="1"/><PVALUETYPE bl="32" bo="21" enc="dbl"><UNIT>rpm</UNIT></PVALUETYPE><COMP s="0" e="65535" f="0.25" o="0"/>
  </LINCOMP>
  <TEXTTBL id="t2"><NAME><TUV>Mode</TUV></NAME><QUAL>Mode</QUAL><CVALUETYPE bl="8" bo="21" enc="uns" minsz="1"
    maxsz="1"/><PVALUETYPE bl="8" bo="21" enc="utf"/><TEXTMAP s="(0)" e="(0)"><TEXT><TUV>Off</TUV></TEXT></TEXTMAP>
    <TEXTMAP s="(1)" e="(1)"><TEXT><TUV>Run</TUV></TEXT></TEXTMAP></TEXTTBL>
  <IDENT id="t3"><NAME><TUV>Text</TUV></NAME><QUAL>Text</QUAL><CVALUETYPE bl="136" bo="21" enc="asc" minsz="1"
    maxsz="1"/><PVALUETYPE bl="136" bo="21" enc="asc"/></IDENT>
  <IDENT id="t4"><NAME><TUV>Count</TUV></NAME><QUAL>Count</QUAL><CVALUETYPE bl="16" bo="12" enc="uns" minsz="1"
    maxsz="1"/><PVALUETYPE bl="16" bo="12" enc="uns"/></IDENT>
</DATATYPES><ECU><VAR><DIAGCLASS>
  <DIAGINST id="d1"><QUAL>VIN</QUAL><STATICVALUE v="61840"/><SIMPLECOMPCONT><DATAOBJ dtref="t3"><QUAL>VIN</QUAL>
    </DATAOBJ></SIMPLECOMPCONT></DIAGINST>
  <DIAGINST id="d2"><QUAL>Engine State</QUAL><STATICVALUE v="256"/><SIMPLECOMPCONT><DATAOBJ dtref="t1">
    <QUAL>Speed</QUAL></DATAOBJ><DATAOBJ dtref="t2"><QUAL>Mode</QUAL></DATAOBJ><DATAOBJ dtref="t4"><QUAL>Count</QUAL>
    </DATAOBJ></SIMPLECOMPCONT></DIAGINST>
  <DIAGINST id="d3"><QUAL>Nothing</QUAL><STATICVALUE v="512"/></DIAGINST>
</DIAGCLASS></VAR></ECU></ECUDOC></CANDELA>
"""
