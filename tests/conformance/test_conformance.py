"""Tests of what tests/conformance makes of the suite's results, and of its registry. No containerd: `run` needs one."""

import gzip
import hashlib
import http.client
import io
import json
import pathlib
import ssl
import sys
import tarfile
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import images  # noqa: E402
import registry  # noqa: E402
import report  # noqa: E402
import suite  # noqa: E402


def results(**words):
    found = suite.Results()
    found.words = {name.replace("__", "/"): word for name, word in words.items()}
    return found


class TestResults(unittest.TestCase):
    def test_results_of_tests_and_parts_are_read(self):
        found = suite.Results()
        found.add("\x16=== RUN   TestA\n\x16    --- PASS: TestA/part (0.01s)\n\x16--- FAIL: TestA (1.20s)\n")
        found.add("\x16--- SKIP: TestB (0.00s)\n")
        self.assertEqual(found.words, {"TestA/part": "passed", "TestA": "failed", "TestB": "skipped"})
        self.assertEqual(found.missing(["TestA", "TestC"]), ["TestC"])

    def test_result_behind_a_containers_output_is_read_and_a_containers_words_are_not(self):
        found = suite.Results()
        found.add("output without an end\x16--- PASS: TestA (0.01s)\n--- PASS: TestB (0.01s)\n")
        self.assertEqual(found.words, {"TestA": "passed"})

    def test_tests_that_run_when_the_time_is_over_have_hung(self):
        found = suite.Results()
        found.add("panic: test timed out after 15m0s\n\trunning tests:\n\t\tTestA (10s)\n\t\tTestB/part (3s)\n"
                  "\ngoroutine 1:\n\t\tTestC (1s)\n")
        self.assertEqual(found.words, {"TestA": "hung", "TestB/part": "hung", "TestB": "hung"})

    def test_second_try_that_passes_is_told(self):
        found = suite.Results()
        found.add("\x16--- FAIL: TestA (0.01s)\n\x16--- FAIL: TestB (0.01s)\n")
        found.add("\x16--- PASS: TestA (0.01s)\n\x16--- FAIL: TestB (0.01s)\n")
        self.assertEqual((found.words, found.repeated), ({"TestA": "passed", "TestB": "failed"}, {"TestA"}))


def compare(runc, ours, text=""):
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        explanations = report.read_explanations(pathlib.Path(file.name))
    tests = [name for name in runc.words if "/" not in name]
    return report.Comparison(tests, {("2.4", report.RUNC): runc, ("2.4", report.OURS): ours}, explanations)


class TestComparison(unittest.TestCase):
    def test_difference_without_an_explanation_is_a_fault(self):
        compared = compare(results(TestA="passed", TestB="passed"), results(TestA="passed", TestB="failed"))
        (fault,) = compared.faults(complete=True)
        self.assertIn("TestB: passed under runc, failed under wasm-interp", fault)

    def test_failure_under_both_needs_an_explanation_too(self):
        compared = compare(results(TestA="failed"), results(TestA="failed"))
        self.assertEqual(len(compared.faults(complete=True)), 1)
        text = '[[shared]]\ntest = "TestA"\nwhy = "because"\n'
        compared = compare(results(TestA="failed"), results(TestA="failed"), text)
        self.assertEqual(compared.faults(complete=True), [])
        self.assertIn("| `TestA` | 2.4 | failed | because |", compared.page([]))

    def test_test_of_which_a_part_differs_is_told_by_the_part(self):
        text = '[[difference]]\ntest = "TestA/part"\nwhy = "because"\n'
        runc = results(TestA="passed", TestA__part="passed", TestA__other="passed")
        ours = results(TestA="failed", TestA__part="failed", TestA__other="passed")
        compared = compare(runc, ours, text)
        self.assertEqual(compared.faults(complete=True), [])
        self.assertIn("| `TestA/part` | 2.4 | passed | failed | because |", compared.page([]))

    def test_explanation_of_a_test_holds_for_its_parts_in_one_row(self):
        text = '[[shared]]\ntest = "TestA"\nwhy = "because"\n'
        words = results(TestA="failed", TestA__part="failed", TestA__other="failed", TestAB="failed")
        compared = compare(words, words, text)
        (fault,) = compared.faults(complete=True)
        self.assertIn("TestAB", fault)
        self.assertEqual(compared.page([]).count("because"), 1)

    def test_explanation_of_what_is_not_so_is_a_fault_unless_tests_were_chosen(self):
        text = '[[difference]]\ntest = "TestA"\nwhy = "because"\n'
        compared = compare(results(TestA="passed"), results(TestA="passed"), text)
        self.assertEqual(len(compared.faults(complete=True)), 1)
        self.assertEqual(compared.faults(complete=False), [])

    def test_explanation_for_one_daemon_does_not_hold_for_another(self):
        text = '[[difference]]\ntest = "TestA"\nwhy = "because"\ndaemons = ["1.6"]\n'
        compared = compare(results(TestA="passed"), results(TestA="failed"), text)
        self.assertEqual(len(compared.faults(complete=True)), 1)

    def test_test_that_is_left_out_is_no_failure_and_is_told(self):
        text = '[[difference]]\ntest = "TestA"\nwhy = "because"\nleft_out = true\n'
        compared = compare(results(TestA="passed", TestA__part="passed"), results(), text)
        self.assertEqual(compared.faults(complete=True), [])
        self.assertIn("| `TestA` | 2.4 | passed | left out | because |", compared.page([]))

    def test_test_that_is_left_out_under_both_is_told_as_what_they_share(self):
        text = '[[shared]]\ntest = "TestA"\nwhy = "because"\nleft_out = true\n'
        compared = compare(results(TestA="passed"), results(TestA="passed"), text)
        self.assertEqual(compared.faults(complete=True), [])
        self.assertIn("| `TestA` | 2.4 | left out | because |", compared.page([]))


class TestRegistry(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        certificate, key = registry.make_certificate(cls.folder.name, ["localhost", *images.HOSTS])
        cls.store = images.all_images(b"busybox", ["busybox", "sh", "nc"])
        cls.server = registry.serve(("127.0.0.1", 0), cls.store, certificate, key)
        cls.context = ssl.create_default_context(cafile=str(certificate))

    @classmethod
    def tearDownClass(cls):
        cls.server.shutdown()
        cls.server.server_close()
        cls.folder.cleanup()

    def get(self, path, method="GET"):
        connection = http.client.HTTPSConnection("localhost", self.server.server_address[1], context=self.context)
        self.addCleanup(connection.close)
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.headers, response.read()

    def test_image_is_found_by_name_and_all_of_it_by_digest(self):
        status, headers, body = self.get("/v2/containerd/busybox/manifests/1.36")
        self.assertEqual((status, headers["Content-Type"]), (200, images.INDEX))
        self.assertEqual(headers["Docker-Content-Digest"], f"sha256:{hashlib.sha256(body).hexdigest()}")
        first = json.loads(body)["manifests"][0]
        self.assertEqual(first["platform"], {"os": "linux", "architecture": "amd64"})
        status, headers, body = self.get(f"/v2/containerd/busybox/manifests/{first['digest']}")
        self.assertEqual((status, headers["Content-Type"]), (200, images.MANIFEST))
        for blob in (json.loads(body)["config"], *json.loads(body)["layers"]):
            status, _, content = self.get(f"/v2/containerd/busybox/blobs/{blob['digest']}")
            self.assertEqual((status, len(content)), (200, blob["size"]))
            self.assertEqual(blob["digest"], f"sha256:{hashlib.sha256(content).hexdigest()}")

    def test_head_has_no_body_and_what_is_not_there_is_404(self):
        status, headers, body = self.get("/v2/pause/manifests/3.6", "HEAD")
        self.assertEqual((status, body), (200, b""))
        self.assertGreater(int(headers["Content-Length"]), 0)
        self.assertEqual(self.get("/v2/pause/manifests/none")[0], 404)
        self.assertEqual(self.get(f"/v2/pause/blobs/sha256:{'0' * 64}")[0], 404)
        self.assertEqual(self.get("/v2/")[0], 200)


class TestImages(unittest.TestCase):
    def test_no_two_platforms_have_a_layer_in_common(self):
        store = images.all_images(b"busybox", ["busybox", "sh"])
        index = json.loads(store.blobs[store.tags["pause", "3.6"]])
        manifests = [json.loads(store.blobs[manifest["digest"]]) for manifest in index["manifests"]]
        layers = [layer["digest"] for manifest in manifests for layer in manifest["layers"]]
        self.assertEqual(len(layers), len(set(layers)))

    def test_equal_inputs_give_equal_digests(self):
        self.assertEqual(images.all_images(b"b", ["sh"]).tags, images.all_images(b"b", ["sh"]).tags)

    def test_program_is_one_file_with_links_to_it(self):
        store = images.all_images(b"busybox", ["busybox", "sh", "nc"])
        index = json.loads(store.blobs[store.tags["containerd/busybox", "1.36"]])
        manifest = json.loads(store.blobs[index["manifests"][0]["digest"]])
        (layer,) = manifest["layers"]
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(store.blobs[layer["digest"]]))) as tar:
            self.assertEqual(tar.extractfile("bin/sh").read(), b"busybox")
            self.assertTrue(tar.extractfile("bin/nc").read().startswith(b"#!/bin/sh"))


if __name__ == "__main__":
    unittest.main()
