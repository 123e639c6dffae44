import json
import platform

import torch

from sg_ray.code_version import code_version
from sg_ray.files import to_plain
from sg_ray.training import compute
from sg_ray.training.compute import cpu_model, environment

CPU = torch.device("cpu")


def test_environment_says_what_the_bits_depend_on():
    found = environment(CPU, num_threads=3)
    assert found["python"].startswith("3.")
    assert found["torch"] == torch.__version__
    assert (found["device"], found["device_name"], found["num_threads"]) == ("cpu", cpu_model(), 3)
    assert (found["host"], found["code_version"]) == (platform.node(), code_version())
    assert {"sg_ray", "numpy", "cuda", "cudnn", "cpu", "cpu_capability"} < found.keys()
    assert json.loads(json.dumps(to_plain(found))) == found


def test_cpu_model_is_a_name_or_the_architecture(monkeypatch, tmp_path):
    def read(text: str | None) -> str:
        path = tmp_path / "cpuinfo"
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        cpu_model.cache_clear()
        return cpu_model()

    monkeypatch.setattr(compute, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(compute.platform, "machine", lambda: "aarch64")
    try:
        assert read("vendor\t: x\nmodel name\t: Fast CPU @ 3 GHz\nmodel name\t: other\n") == (
            "Fast CPU @ 3 GHz"
        )
        assert read("CPU implementer : 0x41\n") == "aarch64"
        assert read(None) == "aarch64"
    finally:
        cpu_model.cache_clear()
