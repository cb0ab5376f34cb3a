package host_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/snapshot"
)

// A host with an etcd of its own, and one on another's, take a snapshot soon after
// their start, which can be restored, and tell of it.
func TestHostTakesSnapshots(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]host.Config{"embedded": config(t), "external": onEtcd()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "backups")
			cfg.Snapshots = host.Snapshots{To: dir, Every: "1h"}
			h := start(t, cfg)
			file := waitFor(t, func() string {
				files, err := filepath.Glob(filepath.Join(dir, "conclave-*.db"))
				if err != nil {
					t.Fatal(err)
				}
				return strings.Join(files, " ")
			})
			if _, err := snapshot.Drill(within(t), file, t.TempDir(), nil); err != nil {
				t.Error(err)
			}
			waitFor(t, func() string { return metricLine(t, h, "conclave_snapshot_last_timestamp_seconds 1") })
		})
	}
}

// waitFor waits until look finds something.
func waitFor(t *testing.T, look func() string) string {
	t.Helper()
	ctx := within(t)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if got := look(); got != "" {
			return got
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("not seen")
		}
	}
}

func metricLine(t *testing.T, h *host.Host, prefix string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), http.MethodGet, h.API()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Timeout: time.Minute}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
	return ""
}

// Who set up backups must not learn later that there are none.
func TestHostEndsWithoutAPlaceForSnapshots(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "a file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{file, "nothing://bucket"} {
		cfg := config(t)
		cfg.Snapshots.To = to
		h, err := host.New(cfg, host.WithRecipe(keeper{}))
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Run(within(t)); err == nil || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), to) {
			t.Errorf("%s: %v", to, err)
		}
	}
}

func TestSnapshotsAreChecked(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]host.Snapshots{
		"to":    {Every: "1h"},
		"every": {To: "x", Every: "often"},
		"1s":    {To: "x", Every: "1s"},
		"keep":  {To: "x", Keep: -1},
	} {
		cfg := config(t)
		cfg.Snapshots = s
		if err := cfg.Check(); !errors.Is(err, host.ErrConfig) || !strings.Contains(err.Error(), "snapshots") || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}
