package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/config"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/snapshot"
	"github.com/conclavehq/conclave/election"
	"github.com/conclavehq/conclave/lock"
	"github.com/conclavehq/conclave/queue"
)

const names = 4

// A load uses every recipe whose state a restore must get right, and remembers what it was told.
type load struct {
	mu     sync.Mutex
	tokens map[string]core.Token // the largest, per lock name
	puts   []string              // payloads whose put was confirmed
	sets   []int64               // revisions of configuration that were confirmed
}

// run works until ctx ends.
func (l *load) run(ctx context.Context, c *clientv3.Client, worker int) error {
	s, err := core.NewSession(ctx, c)
	if err != nil {
		return err
	}
	defer s.Close()
	jobs := queue.New[string](s, "jobs")
	settings, err := config.Open[map[string]int](ctx, c, "settings", config.WithDefault(map[string]int{}))
	if err != nil {
		return err
	}
	defer settings.Close()
	for i := 0; ctx.Err() == nil; i++ {
		if err := l.turn(ctx, s, jobs, settings, worker, i); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

func (l *load) turn(ctx context.Context, s *core.Session, jobs *queue.Queue[string], settings *config.Variable[map[string]int], worker, i int) error {
	name := fmt.Sprintf("lock-%d", (worker+i)%names)
	held, err := lock.NewMutex(s, name).Lock(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.tokens[name] = max(l.tokens[name], held.Token())
	l.mu.Unlock()
	payload := fmt.Sprintf("%d-%d", worker, i)
	_, putErr := jobs.Enqueue(ctx, payload)
	if putErr == nil {
		l.mu.Lock()
		l.puts = append(l.puts, payload)
		l.mu.Unlock()
	}
	rev, setErr := settings.Set(ctx, map[string]int{"turn": i})
	if setErr == nil {
		l.mu.Lock()
		l.sets = append(l.sets, rev)
		l.mu.Unlock()
	}
	return errors.Join(putErr, setErr, held.Unlock())
}

// confirmed is what was confirmed by now.
func (l *load) confirmed() (puts []string, sets []int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append(puts, l.puts...), append(sets, l.sets...)
}

// TestRestoreOfASnapshotUnderLoad takes a snapshot while sessions lock, put, publish and lead, lets them go on, and restores it: what was
// confirmed before is there, nobody owns anything, and every new token is above all that were ever issued, after the snapshot too.
func TestRestoreOfASnapshotUnderLoad(t *testing.T) {
	e := coretest.StartEtcd(t)
	l := &load{tokens: make(map[string]core.Token)}
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for w := range 6 {
		c := e.Client(t)
		work.Go(func() {
			if err := l.run(ctx, c, w); err != nil {
				t.Errorf("worker %d: %v", w, err)
			}
		})
	}
	leads := must(core.NewSession(t.Context(), e.Client(t)))(t)
	term := must(election.New(leads, "leader").Campaign(t.Context(), "old"))(t)
	turns := func(least int) {
		for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
			if puts, _ := l.confirmed(); len(puts) >= least || t.Failed() {
				return
			}
		}
	}
	turns(60)
	puts, sets := l.confirmed()
	file := filepath.Join(t.TempDir(), "saved.db")
	must(snapshot.SaveFile(t.Context(), e.Client(t), file, snapshot.SaveOptions{}))(t)
	now, _ := l.confirmed()
	turns(len(now) + 60)
	stop()
	work.Wait()
	status := must(snapshot.Inspect(file))(t)
	if status.Leases < 7 || status.Leased == 0 {
		t.Fatalf("the snapshot was not taken under load: %+v", status)
	}

	dir := filepath.Join(t.TempDir(), "data")
	must(snapshot.Restore(snapshot.RestoreConfig{File: file, DataDir: dir}))(t)
	c := start(t, dir).Client()
	s := must(core.NewSession(t.Context(), c))(t)
	defer s.Close()
	for name, old := range l.tokens {
		// TryLock: nobody else may hold or wait.
		held := must(lock.NewMutex(s, name).TryLock(t.Context()))(t)
		if held.Token() <= old {
			t.Errorf("%s: token %d after the restore, %d before", name, held.Token(), old)
		}
	}
	if _, err := election.New(s, "leader").Leader(t.Context()); !errors.Is(err, election.ErrNoLeader) {
		t.Errorf("leader: %v", err)
	}
	if again := must(election.New(s, "leader").Campaign(t.Context(), "new"))(t); again.Token() <= term.Token() {
		t.Errorf("leader: token %d after the restore, %d before", again.Token(), term.Token())
	}
	checkQueue(t, s, puts)
	checkVersions(t, c, sets)
	if err := leads.Close(); err != nil {
		t.Error(err)
	}
}

// checkQueue takes what is in the queue and misses none of want.
func checkQueue(t *testing.T, s *core.Session, want []string) {
	t.Helper()
	got := make(map[string]bool)
	jobs := queue.New[string](s, "jobs")
	for {
		item, err := jobs.TryDequeue(t.Context())
		if errors.Is(err, queue.ErrEmpty) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got[item.Value] = true
		if err := item.Ack(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, payload := range want {
		if !got[payload] {
			t.Errorf("item %s is missing", payload)
		}
	}
}

// checkVersions reads the history and misses none of want that is young enough to be kept.
func checkVersions(t *testing.T, c *clientv3.Client, want []int64) {
	t.Helper()
	settings := must(config.Open[map[string]int](t.Context(), c, "settings"))(t)
	defer settings.Close()
	got := make(map[int64]bool)
	oldest := int64(0)
	for version, err := range settings.History(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got[version.Revision], oldest = true, version.Revision
	}
	for _, rev := range want {
		if rev >= oldest && !got[rev] {
			t.Errorf("version %d is missing", rev)
		}
	}
	if len(got) < 2 {
		t.Fatalf("only %d versions", len(got))
	}
	before := settings.Latest().Revision
	if rev := must(settings.Set(t.Context(), map[string]int{"turn": -1}))(t); rev <= before+snapshot.DefaultBump/2 {
		t.Errorf("version %d follows %d", rev, before)
	}
}
