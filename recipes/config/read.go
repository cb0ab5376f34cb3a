package config

import (
	"context"
	"encoding/base64"
	"errors"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "github.com/conclavehq/conclave/api/conclave/config/v1"
	"github.com/conclavehq/conclave/config"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/watch"
)

const (
	defaultPage = 100
	maxPage     = 1000
	maxLimit    = 1000
	// maxAnswer is how many bytes of values an answer has at most, beyond the
	// first one: half of what gRPC clients take by default.
	maxAnswer = 2 << 20
)

// messageOf is a version as the API tells it, without its value.
func messageOf(v *config.Version) *configv1.Version {
	m := &configv1.Version{Key: v.Key, Revision: v.Revision, Number: v.Number, Codec: v.Codec, Size: int32(len(v.Value)), Deleted: v.Deleted,
		Author: v.Author, Message: v.Message, Time: timeOf(v.Time), OfRevision: v.Of}
	if v.Problem != nil {
		m.Problem = v.Problem.Error()
	}
	return m
}

// whole is messageOf with the value.
func whole(v *config.Version) *configv1.Version {
	m := messageOf(v)
	valueIn(m, v.Value)
	return m
}

func timeOf(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// Get implements the method of the ConfigService.
func (i *instance) Get(ctx context.Context, req *configv1.GetRequest) (*configv1.GetResponse, error) {
	s, err := i.store(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	v, err := bounded(ctx, reading, func(ctx context.Context) (*config.Version, error) {
		if req.GetRevision() != 0 {
			return s.At(ctx, req.GetKey(), req.GetRevision())
		}
		return s.Get(ctx, req.GetKey())
	})
	switch {
	case err != nil:
		return nil, err
	case v.Deleted:
		return nil, wasDeleted(v)
	}
	return &configv1.GetResponse{Version: whole(v)}, nil
}

// List implements the method of the ConfigService.
func (i *instance) List(ctx context.Context, req *configv1.ListRequest) (*configv1.ListResponse, error) {
	s, err := i.store(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	size := int(req.GetPageSize())
	switch {
	case size < 0:
		return nil, invalid("page_size", "%d is negative", size)
	case size == 0:
		size = defaultPage
	}
	after := ""
	if req.GetPageToken() != "" {
		token, err := base64.RawURLEncoding.DecodeString(req.GetPageToken())
		if after = string(token); err != nil || keyspace.CheckName("name", after) != nil {
			return nil, invalid("page_token", "is not one that List returned")
		}
	}
	return bounded(ctx, reading, func(ctx context.Context) (*configv1.ListResponse, error) {
		return list(ctx, s, req, after, min(size, maxPage))
	})
}

func list(ctx context.Context, s *config.Store, req *configv1.ListRequest, after string, size int) (*configv1.ListResponse, error) {
	resp := new(configv1.ListResponse)
	for v, err := range s.List(ctx, req.GetPrefix(), after) {
		if err != nil {
			return nil, err
		}
		if v.Deleted && !req.GetDeleted() {
			continue
		}
		if len(resp.GetVersions()) == size {
			last := resp.GetVersions()[size-1].GetKey()
			resp.NextPageToken = base64.RawURLEncoding.EncodeToString([]byte(last))
			break
		}
		resp.Versions = append(resp.Versions, messageOf(v))
	}
	return resp, nil
}

// History implements the method of the ConfigService.
func (i *instance) History(ctx context.Context, req *configv1.HistoryRequest) (*configv1.HistoryResponse, error) {
	s, err := i.store(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	limit := int(req.GetLimit())
	switch {
	case limit < 0 || limit > maxLimit:
		return nil, invalid("limit", "%d is outside 0 to %d", limit, maxLimit)
	case limit == 0:
		limit = maxLimit
	}
	before := int64(0)
	if req.GetPageToken() != "" {
		if before, err = strconv.ParseInt(req.GetPageToken(), 16, 64); err != nil || before < 1 {
			return nil, invalid("page_token", "is not one that History returned")
		}
	}
	return bounded(ctx, reading, func(ctx context.Context) (*configv1.HistoryResponse, error) {
		return past(ctx, s, req.GetKey(), before, limit)
	})
}

func past(ctx context.Context, s *config.Store, key string, before int64, limit int) (*configv1.HistoryResponse, error) {
	resp, size := new(configv1.HistoryResponse), 0
	for v, err := range s.History(ctx, key, before) {
		if err != nil {
			return nil, err
		}
		n := len(resp.GetVersions())
		if n == limit || (n > 0 && size+len(v.Value) > maxAnswer) {
			resp.NextPageToken = strconv.FormatInt(resp.GetVersions()[n-1].GetNumber(), 16)
			break
		}
		size += len(v.Value)
		resp.Versions = append(resp.Versions, whole(v))
	}
	return resp, nil
}

// Watch implements the method of the ConfigService.
func (i *instance) Watch(req *configv1.WatchRequest, stream configv1.ConfigService_WatchServer) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer context.AfterFunc(i.ctx, func() { cancel(context.Cause(i.ctx)) })()
	s, err := i.store(ctx, req.GetNamespace())
	if err != nil {
		return err
	}
	for v, err := range s.Watch(ctx, req.GetKey()) {
		if err != nil {
			return ended(err)
		}
		if err := stream.Send(&configv1.WatchResponse{Version: whole(v)}); err != nil {
			return err
		}
	}
	return status(context.Cause(ctx))
}

// ended is the error of a watch that etcd does not let go on.
func ended(err error) error {
	if lost, ok := errors.AsType[*watch.LostError](err); ok && lost.Err != nil {
		err = lost.Err
	}
	return recipe.Status(err)
}
