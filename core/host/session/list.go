package session

import (
	"context"
	"encoding/base64"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/internal/keyspace"
)

const (
	defaultPage = 100
	maxPage     = 1000
	// askers is how many questions about leases are under way at a time.
	askers = 16
)

// List implements SessionService.
func (s *Service) List(ctx context.Context, r *sessionv1.ListRequest) (*sessionv1.ListResponse, error) {
	namespace, err := namespaceOf(r.GetNamespace())
	if err != nil {
		return nil, err
	}
	size, err := pageSize(r.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := parseToken(r.GetPageToken())
	if err != nil {
		return nil, err
	}
	etcd, cancel := context.WithTimeout(ctx, callBudget)
	defer cancel()
	got, err := s.client.Get(etcd, keyspace.SessionPrefix(namespace), clientv3.WithPrefix(), clientv3.WithMinCreateRev(after+1),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend), clientv3.WithLimit(int64(size)+1))
	if err != nil {
		return nil, readFailed(ctx, err)
	}
	page := &sessionv1.ListResponse{}
	kvs := got.Kvs
	if len(kvs) > size {
		kvs = kvs[:size]
		page.NextPageToken = token(kvs[size-1].CreateRevision)
	}
	var states []*state
	for _, kv := range kvs {
		if st, err := parse(kv); err == nil {
			states = append(states, st)
		}
	}
	page.Sessions, err = s.describe(etcd, states)
	if err != nil {
		return nil, readFailed(ctx, err)
	}
	return page, nil
}

// describe asks how long each session has left, and leaves out those that ended.
func (s *Service) describe(ctx context.Context, states []*state) ([]*sessionv1.Session, error) {
	remaining := make([]time.Duration, len(states))
	errs := make([]error, len(states))
	next := make(chan int)
	var all sync.WaitGroup
	for range min(askers, len(states)) {
		all.Go(func() {
			for i := range next {
				var ttl *clientv3.LeaseTimeToLiveResponse
				if ttl, errs[i] = s.client.TimeToLive(ctx, states[i].lease); errs[i] == nil {
					remaining[i] = time.Duration(ttl.TTL) * time.Second
				}
			}
		})
	}
	for i := range states {
		next <- i
	}
	close(next)
	all.Wait()
	sessions := make([]*sessionv1.Session, 0, len(states))
	for i, st := range states {
		if errs[i] != nil {
			return nil, errs[i]
		}
		if remaining[i] >= 0 {
			sessions = append(sessions, s.message(st, remaining[i]))
		}
	}
	return sessions, nil
}

func (s *Service) message(st *state, remaining time.Duration) *sessionv1.Session {
	s.mu.Lock()
	attached := s.streams[st.id] != nil
	s.mu.Unlock()
	return &sessionv1.Session{
		SessionId: st.id.String(), Namespace: st.namespace, Owner: st.owner, Identity: st.identity,
		Ttl: durationpb.New(st.ttl), Remaining: durationpb.New(remaining), OpenedAt: timestamppb.New(st.since),
		Lease: int64(st.lease), FastRelease: st.fast, Attached: attached,
	}
}

func pageSize(n int32) (int, error) {
	switch {
	case n < 0:
		return 0, invalid("invalid_page_size", "page_size: %d is negative", n)
	case n == 0:
		return defaultPage, nil
	default:
		return int(min(n, maxPage)), nil
	}
}

// token names the last session of a page by the revision that created it: the
// order of the list, and never the same twice.
func token(created int64) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(created, 10)))
}

func parseToken(t string) (int64, error) {
	if t == "" {
		return 0, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(t)
	if err == nil {
		var created int64
		if created, err = strconv.ParseInt(string(text), 10, 64); err == nil && created > 0 {
			return created, nil
		}
	}
	return 0, invalid("invalid_page_token", "page_token: is not one that List returned")
}
