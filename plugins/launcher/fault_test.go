//go:build unix

package launcher_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins/launcher"
)

// copied returns the path of a copy of this program, and its SHA-256.
func copied(t *testing.T) (path string, sum []byte) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, b, 0o700); err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(b)
	return path, hash[:]
}

// Whatever a program does when it is started, there is a state and a sentence for
// it, and the host is as ready as without it.
func TestProgramsThatAreNoPlugins(t *testing.T) {
	t.Parallel()
	good := self(t, "trial", trial{version: "1.0.0"})
	behaves := func(how string) launcher.Spec {
		s := good
		s.Args = []string{"plugin", how}
		if slices.Contains([]string{"hangs", "mute", "endless"}, how) { // the others are as quick as the machine
			s.Limits.StartTimeout = 700 * time.Millisecond
		}
		return s
	}
	changed := good
	changed.Path, changed.SHA256 = copied(t)
	flip(t, changed.Path)
	swapped := good
	swapped.Path, swapped.SHA256 = copied(t)
	swapped.Path = link(t, swapped.Path)
	missing := good
	missing.Path = filepath.Join(t.TempDir(), "missing")
	plain := good
	plain.Path = filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(plain.Path, []byte("no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		spec launcher.Spec
		want string
	}{
		"ends at once":           {behaves("silent"), "it ended before it had begun to serve"},
		"prints before":          {behaves("prints"), `the first line that it printed is "hello, I am starting"`},
		"hangs":                  {behaves("hangs"), "it took too long to start"},
		"another protocol":       {behaves("version"), "speaks another version of the protocol"},
		"an address elsewhere":   {behaves("elsewhere"), "/var/run/docker.sock"},
		"an address of nobody":   {behaves("mute"), ""},
		"prints without end":     {behaves("endless"), ""},
		"one flipped bit":        {changed, "its SHA-256 is another"},
		"a link to another file": {swapped, "its SHA-256 is another"},
		"a missing file":         {missing, "no such file"},
		"not executable":         {plain, "permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLauncher(t, launcher.Config{Backoff: time.Millisecond, Quarantine: launcher.Quarantine{Crashes: 2, Within: time.Hour}})
			p, err := l.Plugin(tt.spec)
			if err != nil {
				t.Fatal(err)
			}
			h := startHost(t, p) // which is ready, or the test ends here
			now := becomes(t, p, recipe.StateQuarantined)
			if !strings.Contains(now.Detail, tt.want) || now.PID != 0 {
				t.Errorf("%+v, want %q", now, tt.want)
			}
			_, err = do(within(t), connect(t, h), "echo")
			if status.Code(err) != codes.Unavailable || recipe.Reason(err) != "recipe_restarting" || !strings.Contains(err.Error(), "stays down") {
				t.Errorf("a call: %v", err)
			}
		})
	}
}

// flip changes one bit of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		b[len(b)/2] ^= 1
		err = os.WriteFile(path, b, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// link makes a link that leads to a file, and then to another one.
func link(t *testing.T, path string) string {
	t.Helper()
	other, _ := copied(t)
	flip(t, other)
	l := path + "-link"
	if err := os.Symlink(other, l); err != nil {
		t.Fatal(err)
	}
	return l
}

// A plugin that fails is started again; one that fails again and again is not, and
// says what it wrote last. Whoever asks gets it another chance.
func TestCrashes(t *testing.T) {
	t.Parallel()
	h, p := run(t, launcher.Config{Backoff: 20 * time.Millisecond, Quarantine: launcher.Quarantine{Crashes: 3, Within: time.Hour}}, self(t, "trial", trial{version: "1.0.0"}))
	c := connect(t, h)
	for n := range 3 {
		before := becomes(t, p, recipe.StateReady).PID
		if _, err := do(within(t), c, "crash"); status.Code(err) != codes.Unavailable || recipe.Reason(err) != "recipe_restarting" {
			t.Errorf("crash %d: %v", n, err)
		}
		if n == 2 {
			break
		}
		another(t, c, before)
	}
	now := becomes(t, p, recipe.StateQuarantined)
	if now.Restarts != 2 || !strings.Contains(now.Detail, "3 crashes within") || !strings.Contains(now.Detail, "conclave plugin restart trial") {
		t.Errorf("%+v", now)
	}
	crashed(t, p, "a mistake that nobody catches")
	if err := p.Restart(within(t)); err != nil {
		t.Fatal(err)
	}
	if got, err := do(within(t), c, "echo back"); err != nil || got != "back" {
		t.Errorf("after the restart: %q, %v", got, err)
	}
	if now := p.Status(); now.State != recipe.StateReady || now.Restarts != 3 {
		t.Errorf("%+v", now)
	}
}

// another calls until another process answers. Until then a call may be told to
// come again, and nothing else.
func another(t *testing.T, c *grpc.ClientConn, before int) {
	t.Helper()
	for {
		pid, err := do(within(t), c, "pid")
		if err == nil && pid != strconv.Itoa(before) {
			return
		}
		if err != nil && recipe.Reason(err) != "recipe_restarting" {
			t.Fatal(err)
		}
	}
}

// crashed waits for the report of a crash that says something.
func crashed(t *testing.T, p *launcher.Plugin, text string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		if c := p.Status().Crash; c != nil && strings.Contains(c.Output, text) && c.PID != 0 && c.Version == "1.0.0" {
			return
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			t.Fatalf("the report is %+v", p.Status().Crash)
		}
	}
}

// Killed under load, a plugin costs its callers no more than another try, and the
// next one serves soon.
func TestKilledUnderLoad(t *testing.T) {
	t.Parallel()
	h, p := run(t, launcher.Config{Quarantine: launcher.Quarantine{Crashes: 1000, Within: time.Hour}, Backoff: time.Nanosecond}, self(t, "trial", trial{version: "1.0.0"}))
	becomes(t, p, recipe.StateReady)
	c := connect(t, h)
	stop := make(chan struct{})
	var callers sync.WaitGroup
	var mu sync.Mutex
	failed, served := map[string]int{}, 0
	for range 4 {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, err := do(within(t), c, "echo x")
				mu.Lock()
				if err == nil {
					served++
				} else {
					failed[status.Code(err).String()+" "+recipe.Reason(err)]++
				}
				mu.Unlock()
			}
		})
	}
	var took []time.Duration
	for range 9 {
		before := becomes(t, p, recipe.StateReady)
		killed := time.Now()
		if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		another(t, c, before.PID)
		took = append(took, time.Since(killed))
		becomes(t, p, recipe.StateReady)
	}
	close(stop)
	callers.Wait()
	for how, n := range failed {
		if how != "Unavailable recipe_restarting" {
			t.Errorf("%d calls failed: %s", n, how)
		}
	}
	t.Logf("%d calls served, %v failed; the next process served after %v", served, failed, took)
}

// A process that answers nothing is killed, and says before what it does.
func TestHangs(t *testing.T) {
	t.Parallel()
	_, p := run(t, launcher.Config{CheckEvery: 50 * time.Millisecond, CheckTimeout: 50 * time.Millisecond, Quarantine: launcher.Quarantine{Crashes: 1000, Within: time.Hour}}, self(t, "trial", trial{version: "1.0.0"}))
	before := becomes(t, p, recipe.StateReady)
	if err := syscall.Kill(before.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(patience)
	for p.Status().Crash == nil {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			t.Fatalf("%+v", p.Status())
		}
	}
	if c := p.Status().Crash; c.PID != before.PID || !strings.Contains(c.Reason, "did not answer 3 questions") {
		t.Errorf("%+v", c)
	}
	if now := becomes(t, p, recipe.StateReady); now.PID == before.PID {
		t.Errorf("%+v", now)
	}
}

// One that answers no questions says what it does before it is killed.
func TestDump(t *testing.T) {
	t.Parallel()
	s := self(t, "trial", trial{version: "1.0.0"})
	file := filepath.Join(t.TempDir(), "ill")
	s.Env = []string{"TRIAL_ILL=" + file}
	_, p := run(t, launcher.Config{CheckEvery: 50 * time.Millisecond, CheckTimeout: 50 * time.Millisecond, Quarantine: launcher.Quarantine{Crashes: 1000, Within: time.Hour}}, s)
	becomes(t, p, recipe.StateReady)
	if err := os.WriteFile(file, []byte("hang"), 0o600); err != nil {
		t.Fatal(err)
	}
	crashed(t, p, "launcher_test.(*tried).Check")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	becomes(t, p, recipe.StateReady)
}

// What a recipe says of its health is told.
func TestIll(t *testing.T) {
	t.Parallel()
	s := self(t, "trial", trial{version: "1.0.0"})
	file := filepath.Join(t.TempDir(), "ill")
	s.Env = []string{"TRIAL_ILL=" + file}
	_, p := run(t, launcher.Config{CheckEvery: 20 * time.Millisecond}, s)
	becomes(t, p, recipe.StateReady)
	if err := os.WriteFile(file, []byte("no disk left"), 0o600); err != nil {
		t.Fatal(err)
	}
	if now := becomes(t, p, recipe.StateDegraded); now.Detail != "no disk left" {
		t.Errorf("%+v", now)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	becomes(t, p, recipe.StateReady)
}

// What a plugin answers, prints and is given is bounded.
func TestTooMuch(t *testing.T) {
	t.Parallel()
	s := self(t, "trial", trial{version: "1.0.0"})
	s.Limits.OpenFiles = 64
	h, p := run(t, launcher.Config{}, s)
	becomes(t, p, recipe.StateReady)
	c := connect(t, h)
	if _, err := do(within(t), c, "big 100000000"); status.Code(err) != codes.ResourceExhausted || recipe.Reason(err) != "limit_message" {
		t.Errorf("100 MB: %.200v", err)
	}
	if got, err := do(within(t), c, "big 3000000"); err != nil || len(got) != 3000000 {
		t.Errorf("3 MB: %d, %v", len(got), err)
	}
	for n := range 3000 {
		if _, err := do(within(t), c, fmt.Sprintf("print line %d", n)); err != nil {
			t.Fatal(err)
		}
	}
	kept := 0
	for l := range p.Logs(within(t), false) {
		kept += len(l.Text)
	}
	if kept == 0 || kept > 64<<10 {
		t.Errorf("%d bytes of the log are kept", kept)
	}
	env, err := do(within(t), c, "env")
	if err != nil {
		t.Fatal(err)
	}
	for pair := range strings.Lines(env) {
		m := variable.FindString(pair)
		if m != "" && !strings.HasPrefix(m, "PLUGIN_") && !slices.Contains([]string{"CONCLAVE_PLUGIN=", "PATH=", "LANG=", "LC_ALL=", "TZ=", "TMPDIR="}, m) {
			t.Errorf("the environment has %s", pair)
		}
	}
	if strings.Contains(env, "PRIVATE KEY") {
		t.Error("what the recipe starts gets its key")
	}
}

// variable is the beginning of a line that is no part of a certificate.
var variable = regexp.MustCompile(`^[A-Z][A-Z0-9_]+=`)
