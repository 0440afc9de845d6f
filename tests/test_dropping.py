"""Images as bytes: what is refused and why, what a file says of itself, the report, the widget."""

import json
import re
import socket
import subprocess
import sys
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from test_widgets import all_text, control, pngs
from tiny import noise_images, textures

from difcore.audit.watermark import MESSAGES, write_mark
from difcore.batch import examiner, serving
from difcore.experiments import dropping
from difcore.experiments.dropping import examine_bytes, summary
from difcore.fingerprints.detector import Bank, Detector
from difcore.fingerprints.null import null_of
from difcore.images.provenance import stated
from difcore.widgets import drop_box

SIZE = 32
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description Iptc4xmpExt:DigitalSourceType="%s"/></x:xmpmeta>'
TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def bank() -> Bank:
    rng = np.random.default_rng(0)
    null = null_of({"reals": rng.normal(0, 0.02, 60)})
    patterns = torch.tensor(rng.standard_normal((2, 3, SIZE, SIZE)), dtype=torch.float32)
    return Bank([Detector(p, 0.0, 0.1, name=n, null=null) for p, n in zip(patterns, ("one", "<b>two"), strict=True)])


def said(path: Path, content: bytes) -> dict[str, str]:
    path.write_bytes(content)
    return stated(path)


def test_what_a_png_says_up_to_its_end(tmp_path: Path) -> None:
    pixels, info, late = noise_images(1, SIZE)[0], PngInfo(), PngInfo()
    info.add_text("parameters", "a house\nSteps: 20", zip=True)
    info.add_itxt("prompt", '{"3": {"class_type": "KSampler"}}')
    info.add_itxt("XML:com.adobe.xmp", XMP % TRAINED)
    info.add(b"caBX", b"jumb")
    exif = Image.Exif()
    exif.update({271: "Maker", 272: "Model\0", 305: "Editor"})
    late.add_text("workflow", "behind the end")
    whole = encoded(pixels, pnginfo=info, exif=exif)
    expected = {
        "AUTOMATIC1111 parameters": "a house Steps: 20", "ComfyUI prompt": '{"3": {"class_type": "KSampler"}}',
        "IPTC digital source type": "trainedAlgorithmicMedia", "C2PA": "a manifest, not verified",
        "camera": "Maker Model", "software": "Editor",
    }  # fmt: skip
    assert said(tmp_path / "a.png", whole) == expected
    assert said(tmp_path / "b.png", whole + encoded(pixels, pnginfo=late)[8:]) == expected
    assert said(tmp_path / "c.png", encoded(pixels)) == {}
    assert said(tmp_path / "d.png", whole[: len(whole) // 3]).keys() <= expected.keys()  # cut off: no error


def test_what_a_jpeg_says_and_that_nonsense_says_nothing(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.update({271: "Maker", 306: "2024:01:02 03:04:05"})
    content = encoded(noise_images(1, SIZE)[0], "JPEG", exif=exif, xmp=(XMP % TRAINED).encode())
    found = said(tmp_path / "a.jpg", content)
    assert found["camera"] == "Maker" and found["date"].startswith("2024")
    assert found["IPTC digital source type"] == "trainedAlgorithmicMedia"
    for damaged in (b"", b"\xff\xd8\xff", b"no image", content[:200], b"\x89PNG\r\n\x1a\n" + b"\xff" * 40):
        assert isinstance(said(tmp_path / "b.jpg", damaged), dict)


def test_each_refused_file_is_named_with_its_reason(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropping, "MOST_FILES", 6)
    monkeypatch.setattr(dropping, "MOST_BYTES", 20_000)
    good, small = (encoded(noise_images(1, size)[0]) for size in (SIZE, 16))
    files = [("a.png", good), ("../../a.png", good), ("small.png", small), ("notes.txt", b"text")]
    found = examine_bytes(
        [*files, ("cut.png", good[:300]), ("big.png", b"\x89PNG" + bytes(20_001)), ("late.png", good)], bank
    )
    assert list(found.files) == ["a.png", "a.png (1)"] and len(found.table) == 4
    reasons = {str(s.path): s.reason for s in found.refused}
    assert reasons["small.png"].startswith("too small") and reasons["notes.txt"].startswith("not an image")
    assert reasons["cut.png"].startswith("damaged") and reasons["big.png"].startswith("too large")
    assert reasons["late.png"].startswith("too many") and len(reasons) == 5
    alike = [("b.png", good), ("b.png (2)", good), ("b.png", good)]
    assert list(examine_bytes(alike, bank).files) == ["b.png", "b.png (2)", "b.png (3)"]
    nothing = examine_bytes([("notes.txt", b"text")], bank)
    assert nothing.files == {} and len(nothing.table) == 0 and len(summary(nothing)) == 0


def test_verdicts_are_those_of_the_bank_and_a_mark_is_told(bank: Bank) -> None:
    pixels = textures(1, 256)[0]
    marked = write_mark(pixels, MESSAGES["StableDiffusionV1"])
    found = examine_bytes([("plain.png", encoded(pixels)), ("marked.png", encoded(marked))], bank, 0.02)
    both = np.stack([pixels, marked])
    expected = bank.decide(both[:, 112:144, 112:144], 0.02)
    assert found.table.drop(columns="image").equals(expected.drop(columns="image"))
    assert found.stated["image"].tolist() == ["marked.png"]
    assert found.stated["value"].iloc[0].startswith("StableDiffusionV1, ")
    assert summary(found)["the file says"].tolist()[0] == "nothing"


def test_the_report_holds_all_and_loads_nothing(bank: Bank) -> None:
    files = [("<script>.png", encoded(noise_images(1, SIZE)[0])), ("bad.png", b"text")]
    found = examine_bytes(files, bank)
    page = examiner.examiners_report(found, "difcore detect <x>")
    assert "<script>" not in page and "&lt;script&gt;.png" in page and "&lt;b&gt;two" in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page) and "url(" not in page
    for part in (
        *found.files.values(),
        bank.filter().hash,
        "difcore detect &lt;x&gt;",
        "60 reals",
        "libjpeg",
        "bad.png",
    ):
        assert part in page, part
    assert page.count("data:image/png;base64,") == 1


def test_the_widget_answers_files(bank: Bank) -> None:
    box = drop_box(lambda files, rate: examiner.drop_answer(files, bank, rate, "command"))
    assert pngs(box) == [] and "No images yet" in all_text(box)
    image = encoded(noise_images(1, SIZE)[0])
    now, content = datetime.now(UTC), memoryview(image)
    file = {"name": "a.png", "type": "image/png", "size": len(image), "content": content, "last_modified": now}
    control(box, "Choose images").value = (file,)
    assert len(pngs(box)) == 1 and "a.png" in all_text(box) and "examiners_report.html" in all_text(box)
    control(box, "Choose images").value = ({**file, "name": "<i>.txt", "content": memoryview(b"text")},)
    assert pngs(box) == [] and "&lt;i&gt;.txt: not an image" in all_text(box)


def test_the_browser_is_sent_to_a_server_that_listens_and_not_without_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    late = f"import socket, time; time.sleep(0.3); s = socket.create_server(('127.0.0.1', {port})); time.sleep(60)"
    for code, answer in ((late, True), ("", False)):
        server = subprocess.Popen([sys.executable, "-c", code])
        assert serving.listening(port, server) is answer
        server.kill()
        server.wait()


def test_the_app_says_what_it_cannot_use_before_it_serves() -> None:
    from test_cli import call

    assert call("app", "no-such-file.safetensors", "--no-browser").code == 2


def test_the_command_line_writes_the_report(bank: Bank, tmp_path: Path) -> None:
    from test_cli import call

    bank.detectors[0].save(tmp_path / "one.safetensors")
    (tmp_path / "a.png").write_bytes(encoded(noise_images(1, SIZE)[0]))
    page = tmp_path / "report.html"
    answer = call("detect", tmp_path / "one.safetensors", tmp_path / "a.png", "--report", page, "--json")
    assert answer.code == 0 and json.loads(answer.out)["report"] == str(page)
    assert "a.png" in page.read_text(encoding="utf-8")
