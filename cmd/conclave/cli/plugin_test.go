//go:build linux

package cli_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/conclavehq/conclave/plugins/catalog"
)

// trialProgram is a plugin that does what is written behind it: see its package.
var trialProgram = sync.OnceValues(func() (_ []byte, err error) {
	dir, err := os.MkdirTemp("", "trial-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "trial")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, "../../../plugins/catalog/testdata/trial")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

func writeTrial(path, orders string) error {
	b, err := trialProgram()
	if err != nil {
		return err
	}
	// Scripts run side by side: a process that one of them starts while this file is open
	// for writing has it open too for a moment, and it cannot be run (golang/go#22315).
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	// Another file, as a build makes it: one that is run cannot be written.
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.RemoveAll(path),
		os.WriteFile(path, append(slices.Clip(b), "\nTRIAL"+orders...), 0o700))
}

// scriptTrial makes a plugin's binary: trial PATH [orders].
func scriptTrial(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: trial path [orders]")
	}
	orders := "{}"
	if len(args) == 2 {
		orders = args[1]
	}
	ts.Check(writeTrial(ts.MkAbs(args[0]), orders))
}

// scriptTrialFolder makes a plugin's folder: trialfolder DIR [orders].
func scriptTrialFolder(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: trialfolder dir [orders]")
	}
	dir := ts.MkAbs(args[0])
	scriptTrial(ts, neg, append([]string{filepath.Join(dir, "trial")}, args[1:]...))
	p, err := catalog.Describe(context.Background(), filepath.Join(dir, "trial"))
	ts.Check(err)
	p.Manifest.Descriptors.SHA256 = ""
	source, err := p.Manifest.Marshal()
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Join(dir, catalog.ManifestName), source, 0o600))
	ts.Check(os.WriteFile(filepath.Join(dir, p.Manifest.Descriptors.File), p.Descriptors, 0o600))
}

// scriptKillPlugin kills the process of the only plugin, which is in the last output
// as JSON.
func scriptKillPlugin(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: killplugin")
	}
	var all []struct{ PID int }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &all))
	if len(all) != 1 || all[0].PID <= 1 {
		ts.Fatalf("plugins: %v", all)
	}
	ts.Check(syscall.Kill(all[0].PID, syscall.SIGKILL))
}

// A serving is a host as in production, whose plugins its administrator looks after.
type serving struct {
	*house

	data string
	host *exec.Cmd
	text *lines // what it logged
}

// newServing starts a host without anything but what is in its data directory.
func newServing(t *testing.T, data string, args ...string) *serving {
	t.Helper()
	cache := t.TempDir()
	s := &serving{house: &house{t: t, cache: cache, env: append(os.Environ(), "XDG_CACHE_HOME="+cache, "XDG_RUNTIME_DIR=", "HOME="+cache)}, data: data, text: new(lines)}
	s.host = s.command(append([]string{"serve", "--data-dir", data, "--api-addr", "127.0.0.1:0", "--client-addr", "127.0.0.1:0", "--peer-addr", "127.0.0.1:0"}, args...)...)
	s.host.Stderr = s.text
	out, err := s.host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.start(s.host)
	line, err := bufio.NewReader(out).ReadString('\n')
	m := readyLine.FindStringSubmatch(line)
	if err != nil || m == nil {
		t.Fatalf("serve printed %q, %v\n%s", line, err, s.text)
	}
	s.api = m[1]
	return s
}

// stop ends the host as systemd does.
func (s *serving) stop() {
	s.t.Helper()
	s.signal(s.host, syscall.SIGTERM)
	if err := s.host.Wait(); err != nil {
		s.t.Errorf("serve: %v\n%s", err, s.text)
	}
}

// conclave runs a command and returns what it printed, and its exit code.
func (s *serving) conclave(args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	cmd := s.command(args...)
	var out, complaint strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out.String(), complaint.String(), exit.ExitCode()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return out.String(), complaint.String(), 0
}

// plugins are the plugins of the host.
func (s *serving) plugins() []struct {
	Name, Version, State, Message string
	PID                           int
} {
	s.t.Helper()
	out, complaint, code := s.conclave("plugin", "ls", "-o", "json", "--data-dir", s.data)
	var all []struct {
		Name, Version, State, Message string
		PID                           int
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil || code != 0 {
		s.t.Fatalf("%q, %s, exit %d, %v", out, complaint, code, err)
	}
	return all
}

// servesOverHTTP fails the test unless the host knows the plugin everywhere, with no
// code for it.
func (s *serving) servesOverHTTP() {
	s.t.Helper()
	web := &http.Client{Timeout: patience}
	defer web.CloseIdleConnections()
	for _, c := range []struct{ method, path, body, want string }{
		{http.MethodPost, "/trial.v1.TrialService/Version", `"?"`, `"1.0.0?"`},
		{http.MethodGet, "/openapi.json", "", `"/trial.v1.TrialService/Version"`},
		{http.MethodGet, "/ui/", "", "trial.v1.TrialService"},
		{http.MethodGet, "/metrics", "", `conclave_plugin_up{recipe="trial",version="1.0.0"} 1`},
	} {
		req, err := http.NewRequestWithContext(s.t.Context(), c.method, s.api+c.path, strings.NewReader(c.body))
		if err != nil {
			s.t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := web.Do(req)
		if err != nil {
			s.t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil || !strings.Contains(string(b), c.want) {
			s.t.Errorf("%s %s: %v, %.2000s", c.method, c.path, err, b)
		}
	}
}

// lines are what a process writes, while others read it.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// In production plugins are changed on the host's own machine only, and a host whose
// plugin was tampered with starts, says so, and is mended by its administrator.
func TestPluginsOfAServingHost(t *testing.T) {
	t.Parallel()
	data, dir := t.TempDir(), t.TempDir()
	path := filepath.Join(dir, "trial")
	if err := writeTrial(path, `{"version":"1.0.0"}`); err != nil {
		t.Fatal(err)
	}
	s := newServing(t, data)
	if _, complaint, code := s.conclave("plugin", "add", path, "--api", s.api); code != 4 || !strings.Contains(complaint, "--data-dir") {
		t.Errorf("over TCP: exit %d, %s", code, complaint)
	}
	if out, complaint, code := s.conclave("plugin", "add", path, "--data-dir", data, "-o", "json"); code != 0 || !strings.Contains(out, `"state":"ready"`) {
		t.Fatalf("on the socket: exit %d, %s %s", code, out, complaint)
	}
	if out, complaint, code := s.conclave("call", "trial.v1.TrialService/Version", `"?"`, "--api", s.api); code != 0 || out != "\"1.0.0?\"\n" {
		t.Errorf("call: exit %d, %s %s", code, out, complaint)
	}
	s.servesOverHTTP()
	pid := s.plugins()[0].PID
	s.stop()
	if !gone(pid) {
		t.Errorf("process %d has outlived its host", pid)
	}
	if _, complaint, code := s.conclave("plugin", "ls", "--data-dir", data); code != 6 || !strings.Contains(complaint, "start the host") {
		t.Errorf("without a host: exit %d, %s", code, complaint)
	}

	stored, err := filepath.Glob(filepath.Join(data, "store", "*"))
	if err != nil || len(stored) != 1 {
		t.Fatalf("the store has %v, %v", stored, err)
	}
	b, err := os.ReadFile(stored[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 4
	if err := errors.Join(os.Remove(stored[0]), os.WriteFile(stored[0], b, 0o500)); err != nil {
		t.Fatal(err)
	}
	s = newServing(t, data)
	if p := s.plugins(); len(p) != 1 || p[0].State != "refused" || !strings.Contains(p[0].Message, "SHA-256") {
		t.Errorf("with a flipped bit: %+v", p)
	}
	if !strings.Contains(s.text.String(), "a plugin is refused") {
		t.Errorf("its log says\n%s", s.text)
	}
	if out, _, code := s.conclave("plugin", "verify", "--data-dir", data); code != 1 || !strings.HasPrefix(out, "refused\ttrial\t1.0.0\t") {
		t.Errorf("verify: exit %d, %s", code, out)
	}
	if out, _, code := s.conclave("doctor", "--api", s.api); code != 1 || !strings.Contains(out, "conclave plugin upgrade trial") {
		t.Errorf("doctor: exit %d, %s", code, out)
	}
	if out, complaint, code := s.conclave("lock", "run", "x", "--api", s.api, "--", "true"); code != 0 {
		t.Errorf("lock run: exit %d, %s %s", code, out, complaint)
	}
	if _, complaint, code := s.conclave("plugin", "upgrade", "trial", path, "--data-dir", data); code != 0 {
		t.Errorf("upgrade with the same: exit %d, %s", code, complaint)
	}
	if p := s.plugins(); len(p) != 1 || p[0].State != "ready" {
		t.Errorf("mended: %+v", p)
	}
}
