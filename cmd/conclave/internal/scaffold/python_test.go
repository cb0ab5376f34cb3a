package scaffold_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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
	program := conformance.Program{Path: filepath.Join(dir, "seat-map")}
	subject, err := conformance.ProgramSubject(t.Context(), program, nil)
	if err != nil {
		t.Fatal(err)
	}
	suite, err := conformance.New(t.Context(), subject, conformance.Config{Scenarios: []conformance.Scenario{{
		Name: "room",
		Take: conformance.NewCall("acme.seatmap.v1.SeatMapService/Enter", `{"name":"$name"}`),
		Show: conformance.NewCall("acme.seatmap.v1.SeatMapService/List", `{"name":"$name"}`),
	}}})
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
