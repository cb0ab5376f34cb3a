package main

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

func newLedger(t *testing.T, account string) (*Ledger, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ledger.db")
	db, err := sql.Open("sqlite", file+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	l, err := OpenLedger(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Open(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	return l, file
}

func newSession(t *testing.T) *core.Session {
	t.Helper()
	s, err := core.NewSession(t.Context(), etcd.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func balance(t *testing.T, l *Ledger, account string, want int64) {
	t.Helper()
	if got, err := l.Balance(t.Context(), account); err != nil || got != want {
		t.Errorf("balance %d, %v; want %d", got, err, want)
	}
}

func TestStaleWriterIsRefused(t *testing.T) {
	const account = "savings"
	l, _ := newLedger(t, account)
	first, second := newSession(t), newSession(t)
	held, err := lock.NewMutex(first, account).Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The first owner has looked at its context for the last time, and is paused
	// before it writes. A context that no longer ends is how a test says so.
	paused := context.WithoutCancel(held.Context())
	if err := l.SetBalance(paused, account, 1); err != nil {
		t.Fatalf("the owner's write: %v", err)
	}
	coretest.ExpireLease(t, etcd.Client(t), first.Lease())
	err = lock.NewMutex(second, account).Do(t.Context(), func(ctx context.Context) error {
		return l.SetBalance(ctx, account, 100)
	})
	if err != nil {
		t.Fatalf("the next owner's write: %v", err)
	}
	if err := l.SetBalance(paused, account, 2); !errors.Is(err, ErrStale) {
		t.Errorf("the stale write: %v, want ErrStale", err)
	}
	balance(t, l, account, 100)
}

func TestWithoutALockNothingIsWritten(t *testing.T) {
	l, _ := newLedger(t, "free")
	if err := l.SetBalance(t.Context(), "free", 1); !errors.Is(err, ErrNotOwner) {
		t.Errorf("error %v, want ErrNotOwner", err)
	}
	balance(t, l, "free", 0)
}

func TestEveryAdditionCounts(t *testing.T) {
	l, file := newLedger(t, "shared")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := run(t.Context(), []string{etcd.Endpoint()}, file, "shared", 5); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	balance(t, l, "shared", 40)
}
