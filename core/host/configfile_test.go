package host_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/conclavehq/conclave/core/host"
)

// upstreamFile is a configuration file as etcd takes it.
func upstreamFile(t *testing.T, more string) (file, client, dir string) {
	t.Helper()
	client, peer := freeAddr(t), freeAddr(t)
	dir = filepath.Join(t.TempDir(), "infra1.etcd")
	text := fmt.Sprintf(`name: infra1
data-dir: %s
listen-client-urls: http://%s
advertise-client-urls: http://%[2]s
listen-peer-urls: http://%[3]s
initial-advertise-peer-urls: http://%[3]s
initial-cluster: infra1=http://%[3]s
log-level: debug
%s`, dir, client, peer, more)
	file = filepath.Join(t.TempDir(), "etcd.conf.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, client, dir
}

// A logged is what a host logs.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A host takes the file as etcd does, alone or below its own.
func TestUpstreamsConfigurationFile(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"alone", "below"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			file, client, dir := upstreamFile(t, "quota-backend-byte: 7\n")
			load := file
			if way == "below" {
				load = filepath.Join(t.TempDir(), "conclave.yaml")
				if err := os.WriteFile(load, []byte("etcd: {config_file: "+file+"}\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cfg, err := host.Load(load)
			if err != nil {
				t.Fatal(err)
			}
			cfg.API.Listen = "127.0.0.1:0"
			log := new(logged)
			h := start(t, cfg, host.WithRecipe(keeper{}), host.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
			if got := h.Etcd(); len(got) != 1 || got[0] != "http://"+client {
				t.Errorf("etcd at %v, want %s", got, client)
			}
			for _, want := range []string{"conclave.sock", "member"} {
				if _, err := os.Stat(filepath.Join(dir, want)); err != nil {
					t.Error(err)
				}
			}
			for _, want := range []string{`did you mean \"quota-backend-bytes\"`, "log-level: "} {
				if !strings.Contains(strings.ReplaceAll(log.String(), `\\`, `\`), want) {
					t.Errorf("the log does not say %q:\n%s", want, log)
				}
			}
		})
	}
}

func TestUpstreamsFileStandsAlone(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*host.Config){
		"etcd.listen_client":   func(c *host.Config) { c.Etcd.ListenClient = "127.0.0.1:2379" },
		"etcd.listen_peer":     func(c *host.Config) { c.Etcd.ListenPeer = "127.0.0.1:2380" },
		"etcd.initial_cluster": func(c *host.Config) { c.Etcd.InitialCluster = map[string]string{"a": "http://127.0.0.1:2380"} },
		"etcd.quota_bytes":     func(c *host.Config) { c.Etcd.QuotaBytes = 1 << 30 },
		"etcd.fast":            func(c *host.Config) { c.Etcd.Fast = true },
		"etcd.config_file":     func(c *host.Config) { c.Etcd.Endpoints = []string{"http://127.0.0.1:1"} },
	} {
		cfg := host.Config{Etcd: host.Etcd{ConfigFile: "etcd.yml"}}
		change(&cfg)
		if err := cfg.Check(); !errors.Is(err, host.ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// What only the file itself can tell ends the start.
func TestUpstreamsFileIsRefused(t *testing.T) {
	t.Parallel()
	good, _, _ := upstreamFile(t, "")
	open, _, _ := upstreamFile(t, "listen-metrics-urls: http://127.0.0.1:9\nlisten-client-http-urls: http://0.0.0.0:9999\n")
	odd, _, _ := upstreamFile(t, "max-txn-ops: 5\n")
	for want, cfg := range map[string]host.Config{
		"name":        {Name: "other", Etcd: host.Etcd{ConfigFile: good}},
		"data_dir":    {DataDir: t.TempDir(), Etcd: host.Etcd{ConfigFile: good}},
		"plaintext":   {Etcd: host.Etcd{ConfigFile: open}},
		"max-txn-ops": {Etcd: host.Etcd{ConfigFile: odd}},
		"no such":     {Etcd: host.Etcd{ConfigFile: good + "x"}},
	} {
		cfg.API.Listen = "127.0.0.1:0"
		err := startError(t, cfg, host.WithRecipe(keeper{}))
		if !errors.Is(err, host.ErrConfig) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
