package watch

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Why a feed ends by itself, beside what etcd says.
var (
	errSilent   = errors.New("nothing heard from the cluster")
	errOverflow = errors.New("the consumer is too far behind")
	errReplaced = errors.New("the store was replaced by another")
)

// eventOverhead is about what an event costs beside its key and value, in bytes.
const eventOverhead = 200

// progressWait bounds the handing over of a progress request, which waits while
// clientv3 reconnects.
const progressWait = time.Second

// feed reads one etcd watch and keeps what its consumer has not taken yet, up to
// a limit: clientv3 itself would buffer without one.
type feed struct {
	limit int           // bytes that may wait
	quiet time.Duration // silence after which progress is asked for
	pulse *pulse
	wake  chan struct{} // one token: something was pushed, or the end

	mu    sync.Mutex
	queue []clientv3.WatchResponse
	size  int
	end   error // why nothing more will be pushed
}

// run reads the watch until it ends. It owns nothing but this goroutine's call:
// the caller cancels ctx and waits for run.
func (f *feed) run(ctx context.Context, c *clientv3.Client, prefix string, responses clientv3.WatchChan) {
	// Jitter lets one observer of a stream ask first; the answer goes to all of
	// them and resets their timers.
	quiet := f.quiet*3/4 + rand.N(f.quiet/2)
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	asked := false
	for {
		select {
		case <-ctx.Done():
			f.finish(context.Cause(ctx))
			return
		case resp, ok := <-responses:
			if !ok || resp.Err() != nil {
				f.finish(lost(prefix, resp))
				return
			}
			f.pulse.heard()
			if err := f.push(resp); err != nil {
				f.finish(err)
				return
			}
			asked = false
		case <-timer.C:
			if asked {
				f.finish(errSilent)
				return
			}
			asked = true
			askProgress(ctx, c)
		}
		timer.Reset(quiet)
	}
}

// askProgress has no error to return: an answer or silence is the result.
func askProgress(ctx context.Context, c *clientv3.Client) {
	ctx, cancel := context.WithTimeout(ctx, progressWait)
	defer cancel()
	_ = c.RequestProgress(ctx)
}

func (f *feed) push(resp clientv3.WatchResponse) error {
	size := 0
	for _, ev := range resp.Events {
		size += eventOverhead + len(ev.Kv.Key) + len(ev.Kv.Value)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	// One response is taken whatever its size: it could never be had otherwise.
	if f.size > 0 && f.size+size > f.limit {
		return errOverflow
	}
	if n := len(f.queue); n > 0 && resp.IsProgressNotify() && f.queue[n-1].IsProgressNotify() {
		f.queue[n-1] = resp
		return nil
	}
	f.queue = append(f.queue, resp)
	f.size += size
	f.signal()
	return nil
}

func (f *feed) finish(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.end = err
	f.signal()
}

func (f *feed) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// next returns the oldest response that waits, then the reason of the end.
func (f *feed) next(ctx context.Context) (clientv3.WatchResponse, error) {
	for {
		if resp, ok, err := f.take(); ok || err != nil {
			return resp, err
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
			return clientv3.WatchResponse{}, context.Cause(ctx)
		}
	}
}

func (f *feed) take() (clientv3.WatchResponse, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue) == 0 {
		f.queue = nil
		return clientv3.WatchResponse{}, false, f.end
	}
	resp := f.queue[0]
	f.queue[0] = clientv3.WatchResponse{}
	f.queue = f.queue[1:]
	for _, ev := range resp.Events {
		f.size -= eventOverhead + len(ev.Kv.Key) + len(ev.Kv.Value)
	}
	return resp, true, nil
}
