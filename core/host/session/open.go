package session

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/keyspace"
)

const (
	defaultNamespace = "default"
	defaultTTL       = 15 * time.Second
	// minTTLOne and minTTLMany are the floors for one member and for several.
	// When a leader is isolated a follower forwards renewals to it for up to
	// 7 s: of sessions with 8 s and less some were lost, with 10 s none.
	minTTLOne  = 5 * time.Second
	minTTLMany = 10 * time.Second
	maxTTL     = time.Hour
	maxOwner   = 255

	// fastHeartbeat is the pace of a session with fast release.
	fastHeartbeat = 500 * time.Millisecond
)

// Open implements SessionService.
func (s *Service) Open(ctx context.Context, r *sessionv1.OpenRequest) (*sessionv1.OpenResponse, error) {
	st, err := s.newState(ctx, r)
	if err != nil {
		return nil, err
	}
	if !s.reserve(st.id) {
		return nil, recipe.Errorf(codes.ResourceExhausted, "limit_sessions", "this host has %d sessions open, which is its limit", s.cfg.Sessions)
	}
	if err := s.open(ctx, st); err != nil {
		s.forget(st.id)
		return nil, err
	}
	s.log.Debug("session opened", "session", st.id, "namespace", st.namespace, "owner", st.owner, "ttl", st.ttl, "lease", int64(st.lease))
	return &sessionv1.OpenResponse{
		SessionId: st.id.String(), Ttl: durationpb.New(st.ttl), FastRelease: st.fast, Heartbeat: durationpb.New(heartbeat(st)),
	}, nil
}

func heartbeat(st *state) time.Duration {
	if st.fast {
		return fastHeartbeat
	}
	return st.ttl / 3
}

// newState is the session that a request describes.
func (s *Service) newState(ctx context.Context, r *sessionv1.OpenRequest) (*state, error) {
	namespace, err := namespaceOf(r.GetNamespace())
	if err != nil {
		return nil, err
	}
	ttl, err := s.ttlOf(ctx, r.GetTtl())
	if err != nil {
		return nil, err
	}
	owner := r.GetOwner()
	if err := keyspace.CheckText("owner", owner, maxOwner); err != nil {
		return nil, invalid("invalid_owner", "%v", err)
	}
	if owner == "" {
		owner = addressOf(ctx)
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, recipe.Errorf(codes.Internal, "internal", "no random numbers: %v", err)
	}
	return &state{id: id, namespace: namespace, ttl: ttl, owner: owner, identity: identityOf(ctx),
		since: time.Now().UTC(), fast: r.GetFastRelease() && localPeer(ctx)}, nil
}

func namespaceOf(namespace string) (string, error) {
	if namespace == "" {
		return defaultNamespace, nil
	}
	if err := keyspace.CheckNamespace("namespace", namespace); err != nil {
		return "", invalid("invalid_namespace", "%v", err)
	}
	return namespace, nil
}

func (s *Service) ttlOf(ctx context.Context, d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return defaultTTL, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, invalid("invalid_ttl", "ttl: %v", err)
	}
	ttl := d.AsDuration()
	if ttl > maxTTL { // before it is rounded, which a huge one would overflow
		return 0, invalid("invalid_ttl", "ttl: %v is above the limit of %v", ttl, maxTTL)
	}
	if ttl < minTTLOne {
		return 0, invalid("invalid_ttl", "ttl: %v is below the limit of %v", ttl, minTTLOne)
	}
	ttl = (ttl + time.Second - 1).Truncate(time.Second)
	if ttl < minTTLMany && s.several(ctx) {
		return 0, invalid("invalid_ttl", "ttl: %v is below the limit of %v of a cluster with several members", ttl, minTTLMany)
	}
	return ttl, nil
}

// several says whether etcd has more than one voter. If the members cannot be
// listed, the client's endpoints are counted.
func (s *Service) several(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, callBudget)
	defer cancel()
	voters := len(s.client.Endpoints())
	if resp, err := s.client.MemberList(ctx); err == nil {
		voters = 0
		for _, m := range resp.Members {
			if !m.IsLearner {
				voters++
			}
		}
	}
	return voters > 1
}

// open grants the lease and writes the record on it, and leaves no lease behind
// that it knows of.
func (s *Service) open(ctx context.Context, st *state) error {
	etcd, cancel := context.WithTimeout(ctx, callBudget)
	defer cancel()
	seconds := int64(st.ttl / time.Second)
	lease, err := s.client.Grant(etcd, seconds)
	if err != nil {
		return repeatable(ctx, err)
	}
	if lease.TTL != seconds {
		s.abandon(lease.ID)
		return invalid("invalid_ttl", "ttl: etcd would grant %v in place of %v", time.Duration(lease.TTL)*time.Second, st.ttl)
	}
	st.lease = lease.ID
	value, err := json.Marshal(record{V: recordVersion, Owner: st.owner, Identity: st.identity, TTL: seconds, Since: st.since, Fast: st.fast})
	if err != nil {
		s.abandon(lease.ID)
		return recipe.Errorf(codes.Internal, "internal", "session record: %v", err)
	}
	put, err := s.client.Put(etcd, st.key(), string(value), clientv3.WithLease(lease.ID))
	if err != nil {
		s.abandon(lease.ID)
		return repeatable(ctx, err)
	}
	st.created, st.rev = put.Header.Revision, put.Header.Revision
	s.view.learn(st, st.rev)
	return nil
}

// abandon revokes a lease of which nobody was told. If that fails, its TTL does it.
func (s *Service) abandon(id clientv3.LeaseID) {
	s.start(func() {
		ctx, cancel := context.WithTimeout(s.life, callBudget)
		defer cancel()
		if _, err := s.client.Revoke(ctx, id); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			s.log.Debug("a lease is left to its TTL", "lease", int64(id), "error", err)
		}
	})
}
