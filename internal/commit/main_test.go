package commit_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/commit"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

// patience bounds every wait of a test: far more than anything takes, so that
// only a hang reaches it.
const patience = 30 * time.Second

func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// newCommitter returns a committer that ends with the test.
func newCommitter(tb testing.TB, cfg commit.Config) *commit.Committer {
	tb.Helper()
	c := commit.New(cfg)
	tb.Cleanup(func() { c.Close(within(tb)) })
	return c
}

// outcome is how one transaction ended.
type outcome struct {
	result commit.Result
	err    error
}

// outcomes collects what a committer's transactions are told.
type outcomes struct {
	wg  sync.WaitGroup
	mu  sync.Mutex
	all map[int]outcome
}

// submit submits transaction n, and counts it in.
func (o *outcomes) submit(c *commit.Committer, n int, txn commit.Txn) commit.Ticket {
	o.wg.Add(1)
	return c.Submit(txn.Scope, func() commit.Txn { return txn }, func(r commit.Result, err error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.all == nil {
			o.all = make(map[int]outcome)
		}
		if _, twice := o.all[n]; twice {
			err = errors.New("done was called twice")
		}
		o.all[n] = outcome{r, err}
		o.wg.Done()
	})
}

// wait waits for all, and returns them by number.
func (o *outcomes) wait(tb testing.TB) map[int]outcome {
	tb.Helper()
	finished := make(chan struct{})
	go func() {
		o.wg.Wait()
		close(finished)
	}()
	select {
	case <-finished:
	case <-within(tb).Done():
		tb.Fatal("transactions without an answer")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all
}

// putTxn writes one key, with the key as scope.
func putTxn(key string, opts ...clientv3.OpOption) commit.Txn {
	return commit.Txn{Scope: []string{key}, Then: []clientv3.Op{clientv3.OpPut(key, "v", opts...)}}
}

// A stage is a committer whose first request waits at the server's door, so that
// everything that is submitted meanwhile gathers behind it.
type stage struct {
	*commit.Committer
	client *clientv3.Client
	faults *coretest.Faults
	hold   *coretest.Hold
	prefix string
	outcomes
}

func newStage(tb testing.TB, on *coretest.Etcd, cfg commit.Config) *stage {
	tb.Helper()
	s := &stage{faults: coretest.NewFaults(), prefix: on.Prefix(tb)}
	s.client = on.Client(tb, s.faults.DialOptions()...)
	cfg.KV, cfg.Depth = s.client, 1
	s.Committer = newCommitter(tb, cfg)
	s.hold = s.faults.Hold(coretest.Puts(s.prefix + "/first"))
	s.submit(s.Committer, -1, putTxn(s.prefix+"/first"))
	if err := s.hold.Wait(within(tb)); err != nil {
		tb.Fatal(err)
	}
	return s
}
