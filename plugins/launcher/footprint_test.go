//go:build unix

package launcher_test

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins/launcher"
)

// mostIdle is what an idle plugin may take, in bytes: most of it is the program itself.
const mostIdle = 20 << 20

// A plugin that does nothing takes little: its program has neither etcd's server nor
// a host in it.
func TestIdleProcessIsSmall(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the memory of another process is measured on Linux only")
	}
	path := filepath.Join(t.TempDir(), "idle")
	build := exec.CommandContext(within(t), "go", "build", "-o", path, "github.com/conclavehq/conclave/plugins/testdata/idle")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s, err := launcher.Describe(within(t), path)
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "idle" || s.Version != "1.2.3" || len(s.Services) != 1 {
		t.Errorf("%+v", s)
	}
	l := newLauncher(t, launcher.Config{})
	p, err := l.Plugin(s)
	if err != nil {
		t.Fatal(err)
	}
	startHost(t, p)
	now := becomes(t, p, recipe.StateReady)
	all := prometheus.NewRegistry()
	all.MustRegister(l)
	families, err := all.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "conclave_plugin_rss_bytes" {
			rss := f.GetMetric()[0].GetGauge().GetValue()
			t.Logf("%.1f MiB; started in %v", rss/(1<<20), now.Started)
			if rss > mostIdle {
				t.Errorf("it takes %.0f bytes, and may take %d", rss, mostIdle)
			}
			return
		}
	}
	t.Error("nobody knows what it takes")
}

// What does not describe itself is no plugin.
func TestProgramsThatDoNotDescribeThemselves(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"true", "false", "yes"} {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Skipf("%s is not there", program)
		}
		if s, err := launcher.Describe(within(t), path); err == nil {
			t.Errorf("%s is %+v", program, s)
		}
	}
	if _, err := launcher.Describe(within(t), filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a missing file describes itself")
	}
}
