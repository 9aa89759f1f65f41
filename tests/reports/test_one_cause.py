"""One change is one cause, whatever modules show it."""

from pytest_nlam_compat.reports.causes import Failure, group, render


def failure(reference, module, cause=None, message="", **other):
    properties = {
        "nlam_cause": cause or f"the input of {module} differs",
        "nlam_cause_key": "inputs at layers.py:3",
        "nlam_cause_module": module,
    }
    return Failure("test_outputs", reference, message, properties | other)


def test_failures_of_one_line_are_one_cause_with_all_its_modules():
    found = group(
        [
            failure("0.7.0-a", "g2m_gnn"),
            failure("0.7.0-b", "processor"),
            failure("0.7.0-c", "g2m_gnn"),
        ]
    )
    [cause] = found
    assert cause["references"] == ["0.7.0-a", "0.7.0-b", "0.7.0-c"]
    lines = list(render(found))
    assert lines[1].startswith(
        "FAILED nlam-compat: the input of g2m_gnn differs, 3 references"
    )
    assert "  modules: g2m_gnn, processor" in lines


def test_one_sentence_in_two_lines_of_the_code_is_two_causes():
    other = failure("0.7.0-b", "g2m_gnn", nlam_cause_key="inputs at b.py:9")
    assert len(group([failure("0.7.0-a", "g2m_gnn"), other])) == 2


def test_the_sentence_is_that_of_the_failure_that_is_explained():
    guessed = failure("0.7.0-a", "", "renamed a -> b", "failed")
    proved = failure("0.7.0-b", "", "renamed a -> c", "failed\n\nWhy:\n")
    [cause] = group([guessed, proved])
    assert cause["text"] == "renamed a -> c"


def test_without_a_diagnosis_the_first_line_tells_failures_apart():
    found = group(
        Failure("test_registry", "own", text, {}) for text in ("a\nb", "a\nc")
    )
    assert [cause["text"] for cause in found] == ["a"]
