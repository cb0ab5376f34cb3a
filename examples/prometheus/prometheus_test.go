package prometheus

import (
	"bufio"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/file"
	"github.com/prometheus/prometheus/discovery/http"
	"github.com/prometheus/prometheus/discovery/targetgroup"
)

const patience = 2 * time.Minute

var ready = regexp.MustCompile(`^ready api=(\S+) etcd=(\S+) `)

// A house is a host and commands that use it.
type house struct {
	t    *testing.T
	bin  string
	args []string // of dev
	api  string
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, bin: filepath.Join(t.TempDir(), "conclave")}
	build := exec.Command("go", "build", "-o", h.bin, "./cmd/conclave")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return h
}

// start starts a command, which ends with the test at the latest.
func (h *house) start(cmd *exec.Cmd) *exec.Cmd {
	h.t.Helper()
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { end(cmd, syscall.SIGKILL) })
	return cmd
}

func end(cmd *exec.Cmd, sig syscall.Signal) {
	_ = cmd.Process.Signal(sig)
	_ = cmd.Wait()
}

func (h *house) command(args ...string) *exec.Cmd {
	cmd := exec.Command(h.bin, args...)
	cmd.Env = append(os.Environ(), "CONCLAVE_API="+h.api)
	cmd.Stderr = os.Stderr
	return cmd
}

// serve starts a host, on the addresses and data of the one before if there was one.
func (h *house) serve(args ...string) *exec.Cmd {
	h.t.Helper()
	cmd := h.command(args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	h.start(cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	m := ready.FindStringSubmatch(line)
	if m == nil {
		h.t.Fatalf("dev printed %q, %v", line, err)
	}
	h.api = m[1]
	return cmd
}

// targets has what Prometheus knows, by job.
type targets struct {
	t    *testing.T
	sync <-chan map[string][]*targetgroup.Group
	now  map[string][]string
}

// until reads what Prometheus is told until both jobs have these addresses.
func (g *targets) until(want ...string) {
	g.t.Helper()
	timeout := time.After(patience)
	for {
		if slices.Equal(g.now["file"], want) && slices.Equal(g.now["http"], want) {
			return
		}
		select {
		case all := <-g.sync:
			g.take(all)
		case <-timeout:
			g.t.Fatalf("Prometheus knows %v, want %v", g.now, want)
		}
	}
}

func (g *targets) take(all map[string][]*targetgroup.Group) {
	g.now = map[string][]string{}
	for job, groups := range all {
		for _, one := range groups {
			for _, labels := range one.Targets {
				g.now[job] = append(g.now[job], string(labels[model.AddressLabel]))
				if one.Labels["__meta_conclave_service"] == "" {
					g.t.Errorf("%s: no service in %v", job, one.Labels)
				}
			}
		}
		slices.Sort(g.now[job])
	}
}

// discover runs Prometheus' discovery on the file and at the host.
func discover(ctx context.Context, t *testing.T, path, url string) *targets {
	t.Helper()
	reg := prometheus.NewRegistry()
	metrics, err := discovery.CreateAndRegisterSDMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	m := discovery.NewManager(ctx, slog.New(slog.DiscardHandler), reg, metrics, discovery.Updatert(10*time.Millisecond))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.Run()
	}()
	t.Cleanup(func() { <-done })
	every := model.Duration(200 * time.Millisecond)
	err = m.ApplyConfig(map[string]discovery.Configs{
		"file": {&file.SDConfig{Files: []string{path}, RefreshInterval: every}},
		"http": {&http.SDConfig{URL: url, RefreshInterval: every, HTTPClientConfig: config.DefaultHTTPClientConfig}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &targets{t: t, sync: m.SyncCh(), now: map[string][]string{}}
}

// Prometheus finds services that come and go, and keeps its targets while the host
// and etcd are away.
func TestPrometheusFindsServices(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	h := newHouse(t)
	data := t.TempDir()
	dev := h.serve("dev", "--data-dir", data, "--api-addr", "127.0.0.1:0", "--client-addr", "127.0.0.1:0", "--peer-addr", "127.0.0.1:0")
	path := filepath.Join(t.TempDir(), "targets.json")
	h.start(h.command("service", "file-sd", "--output", path, "web"))
	register := func(addr string) *exec.Cmd {
		return h.start(h.command("service", "register", "web", "--addr", addr, "--ttl", "1h"))
	}
	one := register("10.0.0.1:9100")
	g := discover(ctx, t, path, h.api+"/sd/prometheus?service=web")
	t.Cleanup(cancel) // before the manager is waited for
	g.until("10.0.0.1:9100")
	register("10.0.0.2:9100")
	g.until("10.0.0.1:9100", "10.0.0.2:9100")
	end(one, syscall.SIGTERM)
	g.until("10.0.0.2:9100")

	end(dev, syscall.SIGKILL)
	for timeout := time.After(3 * time.Second); timeout != nil; { // many looks of Prometheus
		select {
		case all := <-g.sync:
			g.take(all)
			for _, job := range []string{"file", "http"} {
				if !slices.Equal(g.now[job], []string{"10.0.0.2:9100"}) {
					t.Errorf("without a host Prometheus knows %v", g.now)
				}
			}
		case <-timeout:
			timeout = nil
		}
	}
	h.serve("dev", "--data-dir", data, "--api-addr", strings.TrimPrefix(h.api, "http://"), "--client-addr", "127.0.0.1:0", "--peer-addr", "127.0.0.1:0")
	register("10.0.0.3:9100")
	g.until("10.0.0.2:9100", "10.0.0.3:9100")
}
