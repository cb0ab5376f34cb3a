package queue

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	queuev1 "github.com/conclavehq/conclave/api/conclave/queue/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/queue"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

// maxItems bounds the items of one request.
const maxItems = 1000

// Enqueue implements the method of the QueueService.
func (i *instance) Enqueue(ctx context.Context, req *queuev1.EnqueueRequest) (*queuev1.EnqueueResponse, error) {
	items := req.GetItems()
	if len(items) < 1 || len(items) > maxItems {
		return nil, service.Invalidf("items", "%d is outside 1 to %d", len(items), maxItems)
	}
	opts, err := boundsOf(req)
	if err != nil {
		return nil, err
	}
	wait, err := service.Duration("wait", req.GetWait(), 0)
	if err != nil {
		return nil, err
	}
	runs, err := runsOf(items, wait > 0)
	if err != nil {
		return nil, err
	}
	q, _, err := i.lent(ctx, req, opts...)
	if err != nil {
		return nil, err
	}
	bound := writeBudget
	if wait > 0 {
		bound = wait
	}
	calling, release := i.Waiting(ctx, bound)
	defer release()
	resp := new(queuev1.EnqueueResponse)
	for _, r := range runs {
		ids, err := r.enqueue(calling, q, wait)
		if err != nil {
			return nil, put(err, len(resp.GetIds()))
		}
		for _, id := range ids {
			resp.Ids = append(resp.Ids, string(id))
		}
	}
	return resp, nil
}

// put is the error of a call that has put some of its items.
func put(err error, n int) error {
	if n > 0 && !errors.Is(err, core.ErrUnknownOutcome) {
		err = errors.Join(core.ErrUnknownOutcome, err) // some are there, and some are not
	}
	return status(err)
}

func boundsOf(req *queuev1.EnqueueRequest) ([]queue.Option, error) {
	var opts []queue.Option
	if n := int(req.GetCapacity()); n != 0 {
		opts = append(opts, queue.WithCapacity(n))
	}
	window, given, err := positive("dedup_window", req.GetDedupWindow())
	if given {
		opts = append(opts, queue.WithDedupWindow(window))
	}
	return opts, err
}

// A run is items that follow each other with the same options.
type run struct {
	values []payload
	opts   []queue.PutOption
}

// runsOf sorts items into runs, in their order.
func runsOf(items []*queuev1.Put, waits bool) ([]run, error) {
	var runs []run
	var last *queuev1.Put
	for _, item := range items {
		value, err := payloadOf(item)
		if err != nil {
			return nil, err
		}
		if item.GetDedupId() != "" && len(items) > 1 {
			return nil, service.Invalidf("dedup_id", "is for one item, not for one of %d", len(items))
		}
		if last == nil || !alike(last, item) {
			opts, err := putOptions(item)
			if err != nil {
				return nil, err
			}
			if waits {
				opts = append(opts, queue.WaitForRoom())
			}
			runs = append(runs, run{opts: opts})
		}
		last = item
		r := &runs[len(runs)-1]
		r.values = append(r.values, value)
	}
	return runs, nil
}

func alike(a, b *queuev1.Put) bool {
	return a.GetPriority() == b.GetPriority() && a.GetGroup() == b.GetGroup() && a.GetDedupId() == b.GetDedupId() && proto.Equal(a.GetDelay(), b.GetDelay())
}

// putOptions reads how to enqueue an item. Limits are the library's.
func putOptions(item *queuev1.Put) ([]queue.PutOption, error) {
	delay, err := service.Duration("delay", item.GetDelay(), 0)
	if err != nil {
		return nil, err
	}
	opts := []queue.PutOption{queue.Priority(int(item.GetPriority())), queue.Delay(delay)}
	if item.GetDedupId() != "" {
		opts = append(opts, queue.DedupID(item.GetDedupId()))
	}
	if item.GetGroup() != "" {
		opts = append(opts, queue.Group(item.GetGroup()))
	}
	return opts, nil
}

func (r *run) enqueue(ctx context.Context, q *queue.Queue[payload], wait time.Duration) ([]queue.ID, error) {
	ids, err := q.EnqueueAll(ctx, r.values, r.opts...)
	if errors.Is(err, service.ErrWaited) && !errors.Is(err, core.ErrUnknownOutcome) {
		if wait > 0 {
			return nil, queue.ErrFull
		}
		err = errors.Join(core.ErrUnknownOutcome, err)
	}
	return slices.Clip(ids), err
}
