from go2_sevpo.deploy.doctor import cli as doctor


def test_physics_self_test_passes_and_states_the_weight():
    (check,) = doctor.physics(0.6)
    assert check.ok
    assert "expected 15.02" in check.text


def test_a_missing_package_comes_with_how_to_get_it(monkeypatch):
    monkeypatch.setattr(doctor, "_PACKAGES", (("no_such_module", "no-such-package", ""),))
    (check,) = doctor.packages()
    assert check.ok is False
    assert "pip install no-such-package" in check.text


def test_simulators_that_are_absent_are_optional():
    checks = {c.name: c for c in doctor.simulators()}
    assert checks["MuJoCo (default, CPU)"].ok
    assert all(c.ok is not False for c in checks.values())


def test_shipped_policies_load_and_fit():
    assert all(c.ok for c in doctor.policies()), [c.text for c in doctor.policies()]
