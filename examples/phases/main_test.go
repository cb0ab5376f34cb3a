package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

// A job knows what has been done of each phase.
type job struct {
	mu   sync.Mutex
	done map[string]int
}

// work does a part of a phase, which may only begin when all of the one before is
// done.
func (j *job) work(_ context.Context, phase string, _ io.Writer) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, p := range phases {
		if p == phase && i > 0 && j.done[phases[i-1]] != workers {
			return fmt.Errorf("%s began when %d of %d had done %s", phase, j.done[phases[i-1]], workers, phases[i-1])
		}
	}
	j.done[phase]++
	return nil
}

func TestTenWorkersEnterEachPhaseTogether(t *testing.T) {
	j := job{done: make(map[string]int)}
	var all sync.WaitGroup
	for range workers {
		client := etcd.Client(t)
		all.Go(func() {
			if err := run(t.Context(), client, "import", io.Discard, j.work); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, phase := range phases {
		if j.done[phase] != workers {
			t.Errorf("%s was done %d times", phase, j.done[phase])
		}
	}
}

func TestAWorkerThatDiesIsNamed(t *testing.T) {
	client := etcd.Client(t)
	dying, err := core.NewSession(t.Context(), client, core.WithOwner("worker-7"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dying.Close() })
	waiting := make(chan error, 2)
	go func() {
		_, err := barrier.NewDouble(dying, "interrupted", workers, barrier.WithBreakOnLoss()).Enter(t.Context())
		waiting <- err
	}()
	there(t, 1)
	go func() { waiting <- run(t.Context(), client, "interrupted", io.Discard, step) }()
	there(t, 2)
	coretest.ExpireLease(t, client, dying.Lease())
	for range 2 {
		if err := <-waiting; !errors.Is(err, core.ErrSessionExpired) {
			if lost, ok := barrier.LostMember(err); !ok || lost != "worker-7" {
				t.Errorf("error %v, want one that names worker-7", err)
			}
		}
	}
}

// there waits until n wait.
func there(t *testing.T, n int) {
	t.Helper()
	for {
		p, err := barrier.List(t.Context(), etcd.Client(t), barrier.Query{Prefix: "interrupted"})
		if err != nil {
			t.Fatal(err)
		}
		if len(p.States) == 1 && p.States[0].There == n {
			return
		}
	}
}
