//go:build unix

package launcher_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins"
	"github.com/conclavehq/conclave/plugins/launcher"
	"github.com/conclavehq/conclave/recipes/lock"
)

// gone waits until there is no such process. One that has ended and that nobody has
// asked for yet is none.
func gone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.After(patience)
	for syscall.Kill(pid, 0) == nil {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && strings.Contains(string(stat), ") Z ") {
			return
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			t.Fatalf("process %d is still there", pid)
		}
	}
}

// The end of a host leaves nothing of its plugins: no process, no socket.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	l := launcher.New(launcher.Config{RunDir: dir})
	p, err := l.Plugin(self(t, "trial", trial{version: "1.0.0"}))
	if err != nil {
		t.Fatal(err)
	}
	h := startHost(t, p)
	now := becomes(t, p, recipe.StateReady)
	if err := h.Stop(within(t)); err != nil {
		t.Error(err)
	}
	gone(t, now.PID)
	if err := l.Close(within(t)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s: %v", dir, err)
	}
	if p.Status().State != recipe.StateStopped {
		t.Errorf("%+v", p.Status())
	}
	if _, err := l.Plugin(self(t, "trial", trial{version: "1.0.0"})); !errors.Is(err, launcher.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// A folder that is too deep for a socket is replaced, and one of somebody else's is
// not used.
func TestRunDir(t *testing.T) {
	t.Parallel()
	deep := filepath.Join(t.TempDir(), strings.Repeat("deep/", 40))
	l := newLauncher(t, launcher.Config{RunDir: deep})
	p, err := l.Plugin(self(t, "trial", trial{version: "1.0.0"}))
	if err != nil {
		t.Fatal(err)
	}
	startHost(t, p)
	becomes(t, p, recipe.StateReady)
	open := t.TempDir()
	if err := os.Chmod(open, 0o755); err != nil { //nolint:gosec // this is what is refused
		t.Fatal(err)
	}
	l = newLauncher(t, launcher.Config{RunDir: open})
	if p, err = l.Plugin(self(t, "trial", trial{version: "1.0.0"})); err != nil {
		t.Fatal(err)
	}
	h, err := host.New(host.Config{API: host.API{Listen: "127.0.0.1:0"}, Etcd: host.Etcd{Endpoints: []string{etcd.Endpoint()}}}, host.WithRecipe(p))
	if err == nil {
		err = h.Start(within(t))
	}
	if !errors.Is(err, launcher.ErrRunDir) {
		t.Errorf("a folder that others can enter: %v", err)
	}
}

// What a killed host left in the folder is removed; what a living one has there is
// left alone.
func TestRunDirOfAnother(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	stale := filepath.Join(dir, "plugin-dir1", "plugin2")
	if err := os.MkdirAll(filepath.Dir(stale), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := newLauncher(t, launcher.Config{RunDir: dir}).Plugin(self(t, "trial", trial{version: "1.0.0"}))
	if err != nil {
		t.Fatal(err)
	}
	startHost(t, p)
	becomes(t, p, recipe.StateReady)
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		t.Errorf("%s: %v", stale, err)
	}
	q, err := newLauncher(t, launcher.Config{RunDir: dir}).Plugin(self(t, "trial", trial{version: "1.0.0"}))
	if err != nil {
		t.Fatal(err)
	}
	h, err := host.New(host.Config{API: host.API{Listen: "127.0.0.1:0"}, Etcd: host.Etcd{Endpoints: []string{etcd.Endpoint()}}}, host.WithRecipe(q))
	if err == nil {
		err = h.Start(within(t))
	}
	if !errors.Is(err, launcher.ErrRunDir) || !strings.Contains(err.Error(), "is in use") {
		t.Errorf("the folder of a living host: %v", err)
	}
	if err := p.Restart(within(t)); err != nil {
		t.Errorf("the living host: %v", err)
	}
}

// hostMain is a host in a process of its own, for a test that kills it.
func hostMain(endpoint string) {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	d, err := plugins.Describe(trial{version: "1.0.0"})
	if err != nil {
		panic(err)
	}
	l := launcher.New(launcher.Config{})
	p, err := l.Plugin(launcher.Spec{Name: d.GetName(), Version: d.GetVersion(), Path: path, Args: []string{"plugin", "trial"},
		Descriptors: d.GetDescriptors(), Services: d.GetServices()})
	if err != nil {
		panic(err)
	}
	h, err := host.New(host.Config{API: host.API{Listen: "127.0.0.1:0"}, Etcd: host.Etcd{Endpoints: []string{endpoint}}}, host.WithRecipe(p))
	if err != nil {
		panic(err)
	}
	ctx := background()
	if err := h.Start(ctx); err != nil {
		panic(err)
	}
	now, err := p.Wait(ctx, recipe.StateReady)
	if err != nil {
		panic(err)
	}
	fmt.Println(now.PID)
	select {}
}

// A host that is killed takes its plugins with it.
func TestHostIsKilled(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(within(t), self, "plugin", "host", etcd.Endpoint())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
	t.Logf("the plugin was gone after %v", time.Since(killed))
	_ = cmd.Wait() // that it was killed
}

// A process that does nothing any more holds up nobody.
func TestFrozenProcess(t *testing.T) {
	t.Parallel()
	l := launcher.New(launcher.Config{})
	p, err := l.Plugin(self(t, "trial", trial{version: "1.0.0"}))
	if err != nil {
		t.Fatal(err)
	}
	h := startHost(t, p)
	now := becomes(t, p, recipe.StateReady)
	if err := syscall.Kill(now.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := h.Stop(within(t)); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > patience/4 {
		t.Errorf("the host's stop took %v", took)
	}
	if err := l.Close(within(t)); err != nil {
		t.Error(err)
	}
	gone(t, now.PID)
}

// A configuration is checked against the descriptors before anything runs, and by the
// recipe before it is opened.
func TestConfigurations(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T, config string) (*launcher.Plugin, error) {
		t.Helper()
		p, err := newLauncher(t, launcher.Config{}).Plugin(self(t, "lock", lock.Recipe{}))
		if err != nil {
			t.Fatal(err)
		}
		cfg := host.Config{API: host.API{Listen: "127.0.0.1:0"}, Etcd: host.Etcd{Endpoints: []string{etcd.Endpoint()}},
			Recipes: map[string]host.RecipeConfig{"lock": {Config: []byte(config)}}}
		h, err := host.New(cfg, host.WithRecipe(p))
		if err != nil {
			return nil, err
		}
		if err := h.Start(within(t)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := h.Stop(within(t)); err != nil {
				t.Error(err)
			}
		})
		return p, nil
	}
	if _, err := open(t, `{"history_ending": 5}`); !errors.Is(err, host.ErrConfig) || !strings.Contains(err.Error(), `did you mean "history_endings"?`) {
		t.Errorf("a key that is none: %v", err)
	}
	p, err := open(t, `{"history_endings": 1000000000}`)
	if err != nil {
		t.Fatal(err)
	}
	if now := becomes(t, p, recipe.StateQuarantined); !strings.Contains(now.Detail, "its configuration is refused") || !strings.Contains(now.Detail, "history_endings") {
		t.Errorf("%+v", now)
	}
	if p, err = open(t, `{"history_endings": 5}`); err != nil {
		t.Fatal(err)
	}
	becomes(t, p, recipe.StateReady)
}
