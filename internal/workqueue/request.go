package workqueue

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/engine"
)

// requestWait bounds one request that does not go through the session's committer.
const requestWait = 5 * time.Second

// read sends reads as one transaction: all of one revision.
func read(ctx context.Context, e *engine.Engine, ops ...clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	return e.Client().Txn(ctx).Then(ops...).Commit()
}

// alone sends a transaction by itself: one of ranges must not share a batch.
func alone(ctx context.Context, e *engine.Engine, t commit.Txn) (commit.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	resp, err := e.Client().Txn(ctx).If(t.If...).Then(t.Then...).Else(t.Else...).Commit()
	if err != nil {
		return commit.Result{}, commit.Classify(err)
	}
	return commit.Result{Succeeded: resp.Succeeded, Revision: resp.Header.Revision, Responses: resp.Responses}, nil
}

// pause waits, and reports false if ctx or the session ended first.
func pause(ctx context.Context, e *engine.Engine, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-e.Session().Done():
	}
	return false
}

// ended returns why the session ended, or that the engine did.
func ended(e *engine.Engine) error {
	if cause := context.Cause(e.Session()); cause != nil {
		return cause
	}
	return commit.ErrClosed
}

// passing tells of an error of a request that a later one may not meet.
func passing(err error) bool {
	return errors.Is(commit.Classify(err), commit.ErrUnknown)
}
