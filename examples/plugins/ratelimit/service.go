package main

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/conclavehq/conclave/core/recipe"

	ratelimitv1 "example.com/conclave-ratelimit/proto/example/ratelimit/v1"
)

const (
	maxTokens = 1_000_000_000_000
	minWindow = 100 * time.Millisecond
	maxWindow = 366 * 24 * time.Hour
)

// service is the limiter over gRPC.
type service struct {
	ratelimitv1.UnimplementedRateLimitServiceServer

	limiter *limiter
}

// Take takes tokens, all or none.
func (s *service) Take(ctx context.Context, r *ratelimitv1.TakeRequest) (*ratelimitv1.TakeResponse, error) {
	id, err := identify(ctx, r)
	if err != nil {
		return nil, err
	}
	n := r.GetTokens()
	if n == 0 {
		n = 1
	}
	if n < 1 || n > maxTokens {
		return nil, invalidTokens(n)
	}
	o, err := s.limiter.take(ctx, id, n)
	if err != nil {
		return nil, answer(id, err)
	}
	if o.allowed {
		return &ratelimitv1.TakeResponse{Allowed: true}, nil
	}
	return &ratelimitv1.TakeResponse{RetryAfter: durationpb.New(o.retry)}, nil
}

// Status tells how much of the window is left.
func (s *service) Status(ctx context.Context, r *ratelimitv1.StatusRequest) (*ratelimitv1.StatusResponse, error) {
	id, err := identify(ctx, r)
	if err != nil {
		return nil, err
	}
	q, kept, err := s.limiter.look(ctx, id)
	if err != nil {
		return nil, answer(id, err)
	}
	return &ratelimitv1.StatusResponse{
		Quota: q.Quota, Window: durationpb.New(time.Duration(q.Window) * time.Millisecond),
		Claimed: q.Spent, KeptHere: kept,
		Began: timestamppb.New(time.UnixMilli(q.Began)), Ends: timestamppb.New(time.UnixMilli(q.Ends)),
	}, nil
}

// SetQuota sets or changes a quota.
func (s *service) SetQuota(ctx context.Context, r *ratelimitv1.SetQuotaRequest) (*ratelimitv1.SetQuotaResponse, error) {
	id, err := identify(ctx, r)
	if err != nil {
		return nil, err
	}
	if n := r.GetTokens(); n < 1 || n > maxTokens {
		return nil, invalidTokens(n)
	}
	window := r.GetWindow().AsDuration()
	if r.GetWindow().CheckValid() != nil || window < minWindow || window > maxWindow {
		return nil, recipe.Errorf(codes.InvalidArgument, "invalid_window", "window: is %s, must be 100 ms to 366 days", window)
	}
	if err := s.limiter.set(ctx, id, r.GetTokens(), window, r.GetRestart()); err != nil {
		return nil, answer(id, err)
	}
	return &ratelimitv1.SetQuotaResponse{}, nil
}

// DeleteQuota removes a quota.
func (s *service) DeleteQuota(ctx context.Context, r *ratelimitv1.DeleteQuotaRequest) (*ratelimitv1.DeleteQuotaResponse, error) {
	id, err := identify(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := s.limiter.remove(ctx, id); err != nil {
		return nil, err
	}
	return &ratelimitv1.DeleteQuotaResponse{}, nil
}

// named is a request about one quota.
type named interface {
	GetNamespace() string
	GetName() string
}

func identify(ctx context.Context, r named) (quotaID, error) {
	ns, err := recipe.Namespace(ctx, r.GetNamespace())
	return quotaID{namespace: ns, name: r.GetName()}, err
}

func invalidTokens(n int64) error {
	return recipe.Errorf(codes.InvalidArgument, "invalid_tokens", "tokens: is %d, must be 1 to %d", n, int64(maxTokens))
}

func answer(id quotaID, err error) error {
	if errors.Is(err, errNoQuota) {
		return recipe.Errorf(codes.NotFound, "not_found", "quota %q: is not set; SetQuota sets it", id.name)
	}
	return recipe.Status(err)
}

// look reads a quota as it is now, and what this host keeps of it.
func (l *limiter) look(ctx context.Context, id quotaID) (record, int64, error) {
	prefix, err := l.env.Key(id.namespace, id.name)
	if err != nil {
		return record{}, 0, err
	}
	s := newStock(id, prefix+"quota")
	if err := l.read(ctx, s); err != nil {
		return record{}, 0, err
	}
	r := s.seen.at(l.now())
	l.mu.Lock()
	mine := l.stocks[id]
	l.mu.Unlock()
	if mine == nil {
		return r, 0, nil
	}
	return r, mine.kept(r.Epoch), nil
}

// set writes a quota, and keeps the window that runs.
func (l *limiter) set(ctx context.Context, id quotaID, quota int64, window time.Duration, restart bool) error {
	prefix, err := l.env.Key(id.namespace, id.name)
	if err != nil {
		return err
	}
	s := newStock(id, prefix+"quota")
	if err := l.read(ctx, s); err != nil && !errors.Is(err, errNoQuota) {
		return err
	}
	for {
		r := newRecord(quota, window, l.now())
		if s.rev != 0 {
			r = s.seen.at(l.now())
			r.Quota, r.Window, r.Claim = quota, window.Milliseconds(), ""
			if restart {
				r = r.restart(l.now())
			}
		}
		done, err := l.swap(ctx, s, r)
		if done || err != nil && !errors.Is(err, errNoQuota) {
			return err
		}
	}
}

// remove deletes a quota. The number of its window goes with it, so a host whose
// block is older than a quota of the same name must not give it back there:
// newRecord begins with another number.
func (l *limiter) remove(ctx context.Context, id quotaID) error {
	prefix, err := l.env.Key(id.namespace, id.name)
	if err != nil {
		return err
	}
	_, err = l.env.Client.Do(ctx, clientv3.OpDelete(prefix+"quota"))
	return recipe.Status(err)
}
