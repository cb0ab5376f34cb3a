package session

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
)

// Close implements SessionService: it ends a session, not the service.
func (s *Service) Close(ctx context.Context, r *sessionv1.CloseRequest) (*sessionv1.CloseResponse, error) {
	st, err := s.lookup(ctx, r.GetSessionId(), r.GetNamespace())
	if err != nil {
		return nil, err
	}
	if st == nil {
		return &sessionv1.CloseResponse{}, nil
	}
	etcd, cancel := context.WithTimeout(ctx, callBudget)
	defer cancel()
	_, err = s.client.Revoke(etcd, st.lease)
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil, writeFailed(ctx, err)
	}
	return &sessionv1.CloseResponse{}, nil
}
