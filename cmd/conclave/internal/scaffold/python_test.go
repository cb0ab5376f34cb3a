package scaffold_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/conclavehq/conclave/cmd/conclave/internal/scaffold"
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
