package schedule

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/snapshot"
)

func TestMain(m *testing.M) { coretest.Main(m, nil) }

func places(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{"directory": filepath.Join(t.TempDir(), "made"), "bucket": "file://" + t.TempDir() + "?no_tmp_dir=true"}
}

// until runs s until a snapshot was taken, or a try failed, n times.
func until(t *testing.T, s Schedule, n int) (files []File, failures []error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.Taken = func(f File, _ time.Duration, err error) {
		if err != nil {
			failures = append(failures, err)
		} else {
			files = append(files, f)
		}
		if len(files)+len(failures) == n {
			cancel()
		}
	}
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return files, failures
}

func listed(t *testing.T, to string) []File {
	t.Helper()
	p, err := OpenPlace(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	files, err := p.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestTakesOneAtOnceWhereThereIsNone(t *testing.T) {
	e := coretest.StartEtcd(t)
	for name, to := range places(t) {
		t.Run(name, func(t *testing.T) {
			took, failures := until(t, Schedule{To: to, Client: e.Client(t)}, 1)
			if len(failures) > 0 || len(took) != 1 {
				t.Fatalf("took %v, failed %v", took, failures)
			}
			if files := listed(t, to); !slices.Equal(files, took) {
				t.Errorf("there lie %v, taken were %v", files, took)
			}
		})
	}
}

func TestWhatWasTakenCanBeRestored(t *testing.T) {
	e := coretest.StartEtcd(t)
	if _, err := e.Client(t).Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	took, _ := until(t, Schedule{To: "file://" + dir + "?no_tmp_dir=true", Client: e.Client(t)}, 1)
	r, err := snapshot.Drill(t.Context(), filepath.Join(dir, took[0].Name), t.TempDir(), nil)
	if err != nil || r.Keys != 1 || r.Snapshot.Revision != took[0].Revision {
		t.Errorf("drill %+v, %v", r, err)
	}
}

func TestKeepsTheNewestAndOnlyItsOwnKind(t *testing.T) {
	e := coretest.StartEtcd(t)
	for name, to := range places(t) {
		t.Run(name, func(t *testing.T) {
			p, err := OpenPlace(t.Context(), to)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			old := time.Now().Add(-4 * time.Hour)
			var names []string
			for i := range 4 {
				names = append(names, NameOf(old.Add(time.Duration(i)*time.Minute), int64(i+1)))
			}
			for _, name := range append(slices.Clone(names), "precious.db", "conclave-latest.db") {
				file := filepath.Join(t.TempDir(), "x")
				if err := os.WriteFile(file, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := p.add(t.Context(), file, name); err != nil {
					t.Fatal(err)
				}
			}
			took, failures := until(t, Schedule{To: to, Keep: 3, Client: e.Client(t)}, 1)
			if len(failures) > 0 {
				t.Fatal(failures)
			}
			var got []string
			for _, f := range listed(t, to) {
				got = append(got, f.Name)
			}
			if want := []string{took[0].Name, names[3], names[2]}; !slices.Equal(got, want) {
				t.Errorf("kept %v, want %v", got, want)
			}
			for _, name := range []string{"precious.db", "conclave-latest.db"} {
				if err := p.remove(t.Context(), name); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

func TestAFailedTryRemovesNothing(t *testing.T) {
	e := coretest.StartEtcd(t)
	c := e.Client(t)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	old := NameOf(time.Now().Add(-4*time.Hour), 1)
	if err := os.WriteFile(filepath.Join(dir, old), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	took, failures := until(t, Schedule{To: dir, Keep: 1, Client: c}, 1)
	if len(took) > 0 || len(failures) != 1 {
		t.Fatalf("took %v, failed %v", took, failures)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != old {
		t.Errorf("there lie %v, %v", entries, err)
	}
}

func TestDue(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	s := Schedule{Every: time.Hour}
	ago := func(d time.Duration) []File { return []File{{Time: now.Add(-d)}, {Time: now.Add(-100 * time.Hour)}} }
	for name, c := range map[string]struct {
		files    []File
		patience time.Duration
		want     time.Duration
	}{
		"none yet":              {nil, time.Minute, 0},
		"a young one":           {ago(10 * time.Minute), 0, 50 * time.Minute},
		"one of its age":        {ago(time.Hour), 0, 0},
		"one of its age, later": {ago(time.Hour), 5 * time.Minute, 5 * time.Minute},
		"of the near future":    {ago(-time.Minute), 0, 61 * time.Minute},
		"of the far future":     {ago(-1000 * time.Hour), 0, 2 * time.Hour},
	} {
		if got := s.due(now, c.files, c.patience); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// The leader's host comes first, each other at a time of its own, and all of them soon. In a directory of one's own nobody waits.
func TestPatience(t *testing.T) {
	seen := make(map[time.Duration]bool)
	for _, host := range []string{"a", "b", "c"} {
		s := Schedule{To: "file:///x", Every: time.Hour, Host: host}
		p := s.patience(t.Context())
		if p <= 0 || p > maxPatience || seen[p] {
			t.Errorf("%s waits %s", host, p)
		}
		seen[p] = true
		s.Leads = func(context.Context) bool { return true }
		if p := s.patience(t.Context()); p != 0 {
			t.Errorf("the leader's host waits %s", p)
		}
		if p := (Schedule{To: "/x", Every: time.Hour, Host: host}).patience(t.Context()); p != 0 {
			t.Errorf("with a directory %s waits %s", host, p)
		}
	}
}

func TestInvalidSchedules(t *testing.T) {
	for _, s := range []Schedule{{}, {To: "x", Every: time.Second}, {To: "x", Keep: -1}} {
		if err := s.Run(t.Context()); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", s, err)
		}
	}
	if err := (Schedule{To: "nothing://bucket"}).Run(t.Context()); err == nil {
		t.Error("a bucket without a driver was opened")
	}
}

func TestNamesComeBack(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 30, 5, 99, time.FixedZone("x", 3600))
	f, ok := parseName(NameOf(at, 77))
	if !ok || !f.Time.Equal(at.Truncate(time.Second)) || f.Revision != 77 {
		t.Errorf("%+v, %t", f, ok)
	}
}
