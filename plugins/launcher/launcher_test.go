//go:build unix

package launcher_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins/launcher"
)

// A recipe in a process of its own serves as one in the host's does.
func TestServesFromItsOwnProcess(t *testing.T) {
	t.Parallel()
	h, p := run(t, launcher.Config{}, self(t, "trial", trial{version: "1.0.0"}))
	c := connect(t, h)
	if got, err := do(within(t), c, "echo hello"); err != nil || got != "hello" {
		t.Fatalf("got %q, %v", got, err)
	}
	if got, err := do(within(t), c, "put a/b"); err != nil || got != "/conclave/default/trial/a%2Fb/" {
		t.Errorf("put: %q, %v", got, err)
	}
	if _, err := do(within(t), c, "panic"); recipe.Reason(err) != "recipe_failed" || strings.Contains(err.Error(), "mistake") {
		t.Errorf("panic: %v", err)
	}
	if _, err := do(within(t), c, "nothing"); recipe.Reason(err) != "invalid_verb" {
		t.Errorf("its own error: %v", err)
	}
	now := becomes(t, p, recipe.StateReady)
	if now.PID == 0 || now.Started == 0 || now.Restarts != 0 {
		t.Errorf("%+v", now)
	}
	t.Log("started in", now.Started)
}

// A process without go-plugin's broker reaches the same etcd by a socket.
func TestHostSocket(t *testing.T) {
	t.Parallel()
	s := self(t, "trial", trial{version: "1.0.0"})
	s.HostSocket = true
	h, p := run(t, launcher.Config{}, s)
	c := connect(t, h)
	if got, err := do(within(t), c, "put socket"); err != nil || got != "/conclave/default/trial/socket/" {
		t.Errorf("put: %q, %v", got, err)
	}
	lease, err := etcd.Client(t).Grant(within(t), 60)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := do(within(t), c, fmt.Sprintf("attack %x elsewhere", lease.ID)); err != nil || !strings.HasPrefix(got, "through []") {
		t.Errorf("%q, %v", got, err)
	}
	if err := p.Restart(within(t)); err != nil {
		t.Error(err)
	}
	if got, err := do(within(t), c, "put socket"); err != nil {
		t.Errorf("put after a restart: %q, %v", got, err)
	}
}

// What is known of a plugin is told as metrics, its own and those of its process.
func TestMetrics(t *testing.T) {
	t.Parallel()
	l := newLauncher(t, launcher.Config{})
	p, err := l.Plugin(self(t, "trial", trial{version: "1.0.0"}))
	if err != nil {
		t.Fatal(err)
	}
	h := startHost(t, p)
	becomes(t, p, recipe.StateReady)
	got := page(t, h.API()+"/metrics")
	if !strings.Contains(got, `recipe_trial_done_total{recipe="trial"} 42`) {
		t.Error("its own metric is missing")
	}
	all := prometheus.NewPedanticRegistry()
	all.MustRegister(l)
	families, err := all.Gather()
	if err != nil {
		t.Fatal(err)
	}
	told := make(map[string]float64)
	for _, f := range families {
		told[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
	}
	if told["conclave_plugin_up"] != 1 || told["conclave_plugin_start_seconds"] <= 0 {
		t.Errorf("told %v", told)
	}
	if _, there := told["conclave_plugin_restarts_total"]; !there {
		t.Errorf("told %v", told)
	}
	if runtime.GOOS == "linux" && (told["conclave_plugin_rss_bytes"] < 1<<20 || told["conclave_plugin_cpu_seconds"] < 0) {
		t.Errorf("told %v", told)
	}
	l.Forget(p)
	if families, err = all.Gather(); err != nil || len(families) != 0 {
		t.Errorf("told of what was forgotten: %v, %v", families, err)
	}
}

// A process that takes more memory than it may is ended, and says so.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the memory of another process is measured on Linux only")
	}
	s := self(t, "trial", trial{version: "1.0.0"})
	s.Limits.MemoryBytes = 256 << 20
	h, p := run(t, launcher.Config{}, s)
	c := connect(t, h)
	if _, err := do(within(t), c, "grow 10000000"); err != nil {
		t.Errorf("below the limit: %v", err)
	}
	before := becomes(t, p, recipe.StateReady)
	// It may be ended while it answers.
	if _, err := do(within(t), c, "grow 400000000"); err != nil && recipe.Reason(err) != "recipe_restarting" {
		t.Errorf("beyond the limit: %v", err)
	}
	another(t, c, before.PID)
	crashed(t, p, "")
	if why := p.Status().Crash.Reason; !strings.Contains(why, "bytes of memory") {
		t.Errorf("it ended because %s", why)
	}
}

// The log of a process arrives as what it was.
func TestLogs(t *testing.T) {
	t.Parallel()
	h, p := run(t, launcher.Config{}, self(t, "trial", trial{version: "1.0.0"}))
	becomes(t, p, recipe.StateReady)
	c := connect(t, h)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	lines := make(chan launcher.Line)
	go func() {
		defer close(lines)
		for l := range p.Logs(ctx, true) {
			select {
			case lines <- l:
			case <-ctx.Done():
			}
		}
	}()
	for _, what := range []string{"log remarkable", "print plainly said"} {
		if _, err := do(within(t), c, what); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]bool{`"@level":"warn","@message":"remarkable"`: true, "plainly said": true}
	for l := range lines {
		for text := range want {
			if strings.Contains(l.Text, text) && l.PID == p.Status().PID {
				delete(want, text)
			}
		}
		if len(want) == 0 {
			break
		}
	}
	cancel()
	for range lines {
	}
	if err := p.SetLogLevel(within(t), slog.LevelError); err != nil {
		t.Error(err)
	}
	if _, err := do(within(t), c, "log unheard"); err != nil {
		t.Error(err)
	}
	if _, err := do(within(t), c, "print at last"); err != nil {
		t.Error(err)
	}
	for l := range p.Logs(within(t), true) {
		if strings.Contains(l.Text, "unheard") {
			t.Error("a line below the level is written")
		}
		if strings.Contains(l.Text, "at last") {
			break
		}
	}
}

// What a process wrote last is kept however it ends, and that it has ended, which a
// process that was killed cannot say itself.
func TestLogsOfAKilledProcess(t *testing.T) {
	t.Parallel()
	h, p := run(t, launcher.Config{Backoff: time.Nanosecond, Quarantine: launcher.Quarantine{Crashes: 100, Within: time.Hour}}, self(t, "trial", trial{version: "1.0.0"}))
	c := connect(t, h)
	for n := range 5 {
		becomes(t, p, recipe.StateReady)
		words := fmt.Sprintf("last words %d", n)
		if _, err := do(within(t), c, "die "+words); status.Code(err) != codes.Unavailable {
			t.Fatalf("it was not killed: %v", err)
		}
		crashed(t, p, words)
		missing := []string{words + " on stdout", words + " on stderr", fmt.Sprintf("conclave: process %d, version 1.0.0, has failed: ", p.Status().Crash.PID)}
		for l := range p.Logs(within(t), false) {
			missing = slices.DeleteFunc(missing, func(text string) bool { return strings.HasPrefix(l.Text, text) })
		}
		if len(missing) > 0 {
			t.Errorf("not kept: %q", missing)
		}
		another(t, c, p.Status().Crash.PID)
	}
}

// page returns what a URL answers.
func page(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
