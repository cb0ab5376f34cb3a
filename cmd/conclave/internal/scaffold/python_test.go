package scaffold_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/conclavehq/conclave/cmd/conclave/internal/scaffold"
	"github.com/conclavehq/conclave/recipes/recipetest/conformance"
)

// pythonPath returns a PATH on which python3 has grpcio, or skips the test.
func pythonPath(t *testing.T) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/bin") {
		python := filepath.Join(dir, "python3")
		if exec.CommandContext(t.Context(), python, "-c", "import grpc, google.protobuf").Run() == nil {
			return dir + string(filepath.ListSeparator) + os.Getenv("PATH")
		}
	}
	t.Skip("python3 with grpcio and protobuf is not installed (Debian: python3-grpcio)")
	return ""
}

// A project in Python builds, and passes its tests, as it is.
func TestPythonProject(t *testing.T) {
	t.Setenv("PATH", pythonPath(t))
	dir := write(t, scaffold.Project{Name: "seat-map", Lang: scaffold.Python, Owner: "acme"})
	output(t, dir, "python3", "build.py")
	output(t, dir, "python3", "-m", "unittest")
	said := output(t, dir, "./seat-map", "--describe")
	for _, want := range []string{`"seat-map"`, "acme.seatmap.v1.SeatMapService", `"hostSocket": true`} {
		if !strings.Contains(said, want) {
			t.Errorf("--describe does not say %s", want)
		}
	}
}

// A project in Python behaves as a recipe must.
func TestPythonConformance(t *testing.T) {
	t.Setenv("PATH", pythonPath(t))
	dir := write(t, scaffold.Project{Name: "seat-map", Lang: scaffold.Python, Owner: "acme"})
	output(t, dir, "python3", "build.py")
	text, err := os.ReadFile(filepath.Join(dir, "conformance.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := conformance.ParseFile(text)
	if err != nil {
		t.Fatal(err)
	}
	conform(t, filepath.Join(dir, "seat-map"), file.Scenarios...)
}

// A recipe in Python whose calls wait, in a stream, on a watch: they end as calls
// must, and keep their places when the recipe stops.
func TestPythonWaits(t *testing.T) {
	t.Setenv("PATH", pythonPath(t))
	dir := write(t, scaffold.Project{Name: "gate", Lang: scaffold.Python})
	makeGate(t, dir)
	output(t, dir, "python3", "build.py")
	const service = "example.gate.v1.GateService/"
	conform(t, filepath.Join(dir, "gate"), conformance.Scenario{
		Name: "gate",
		Take: conformance.NewCall(service+"Enter", `{"name":"$name"}`),
		Wait: conformance.NewCall(service+"List", `{"name":"$name"}`),
		Free: conformance.NewCall(service+"Leave", `{"name":"$name"}`),
	})
}

// makeGate makes a project the recipe of testdata/gate.py.
func makeGate(t *testing.T, dir string) {
	t.Helper()
	text, err := os.ReadFile("testdata/gate.py")
	if err != nil {
		t.Fatal(err)
	}
	save(t, filepath.Join(dir, "src", "recipe.py"), text)
	path := filepath.Join(dir, "src", "descriptors.binpb")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(raw, set); err != nil {
		t.Fatal(err)
	}
	service := set.GetFile()[len(set.GetFile())-1].GetService()[0]
	enter, list := service.GetMethod()[0], service.GetMethod()[1]
	leave := proto.CloneOf(enter)
	leave.Name = new("Leave")
	list.InputType, list.ServerStreaming, list.Options = enter.InputType, new(true), proto.CloneOf(enter.GetOptions())
	service.Method = append(service.Method, leave)
	if raw, err = proto.Marshal(set); err != nil {
		t.Fatal(err)
	}
	save(t, path, raw)
}

// conform runs the conformance suite on a program.
func conform(t *testing.T, path string, scenarios ...conformance.Scenario) {
	t.Helper()
	subject, err := conformance.ProgramSubject(t.Context(), conformance.Program{Path: path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	suite, err := conformance.New(t.Context(), subject, conformance.Config{Scenarios: scenarios})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := suite.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, check := range suite.Checks() {
		switch r := suite.Run(context.WithoutCancel(t.Context()), check); r.Outcome {
		case conformance.Failed:
			t.Errorf("%s: %s, but: %s", check.Name, check.Promise, r.Detail)
		case conformance.Skipped:
			t.Logf("%s: skipped: %s", check.Name, r.Detail)
		case conformance.Passed:
			t.Logf("%s: passed in %s", check.Name, r.Took)
		}
	}
}
