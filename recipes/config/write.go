package config

import (
	"context"
	"encoding/json"
	"errors"
	"unicode/utf8"

	"google.golang.org/grpc/metadata"

	configv1 "github.com/conclavehq/conclave/api/conclave/config/v1"
	"github.com/conclavehq/conclave/config"
	"github.com/conclavehq/conclave/core/recipe"
)

// A signed request says who publishes and why.
type signed interface {
	GetMessage() string
	GetAuthor() string
}

// said is what a request says of itself, with whom the host knows to be calling
// if it says nothing.
func said(ctx context.Context, req signed) []config.PublishOption {
	return []config.PublishOption{config.Author(author(ctx, req.GetAuthor())), config.Message(req.GetMessage())}
}

func author(ctx context.Context, label string) string {
	if label != "" {
		return label
	}
	if id := metadata.ValueFromIncomingContext(ctx, recipe.MetaIdentity); len(id) > 0 && id[0] != "" {
		return id[0]
	}
	return unknown
}

// A valued message has a value in one of two fields.
type valued interface {
	GetKey() string
	GetValue() string
	GetData() []byte
	GetCodec() string
}

// change makes the change of one key. What is wrong with the value's length is
// for the library to say.
func change(m valued, expect *int64) (config.Change, error) {
	c := config.Change{Key: m.GetKey(), Value: m.GetData(), Codec: m.GetCodec(), Expect: expect}
	if len(m.GetData()) > 0 && m.GetValue() != "" {
		return c, invalid("value", "is given both as text and as bytes")
	}
	if len(c.Value) == 0 {
		c.Value = []byte(m.GetValue())
	}
	switch {
	case c.Codec != "":
	case len(m.GetData()) > 0:
		c.Codec = "bytes"
	case json.Valid(c.Value):
		c.Codec = "json"
	default:
		c.Codec = "text"
	}
	if expect != nil && *expect < 0 {
		return c, invalid("if_revision", "%d is negative", *expect)
	}
	return c, nil
}

// maxSchemaChanges is how often a publication begins anew because a schema
// changed meanwhile.
const maxSchemaChanges = 5

// publish checks the changes against the schemas of their keys and releases them.
func (i *instance) publish(ctx context.Context, s *config.Store, changes []config.Change, by []config.PublishOption) (int64, error) {
	return bounded(ctx, writing, func(ctx context.Context) (revision int64, err error) {
		for range maxSchemaChanges {
			if revision, err = checked(ctx, s, changes, by); !errors.Is(err, config.ErrSchemaChanged) {
				break
			}
		}
		return revision, err
	})
}

func checked(ctx context.Context, s *config.Store, changes []config.Change, by []config.PublishOption) (int64, error) {
	for n := range min(len(changes), config.MaxRelease) {
		if err := attach(ctx, s, &changes[n]); err != nil {
			return 0, err
		}
	}
	return s.Publish(ctx, changes, by...)
}

// attach checks the value of a change against the schema of its key. What is wrong
// with its length is for the library to say.
func attach(ctx context.Context, s *config.Store, c *config.Change) error {
	if c.Delete || len(c.Value) == 0 || len(c.Value) > config.MaxValue {
		return nil
	}
	schema, err := pass(ctx, s, c.Key, c.Value)
	c.Schema = &schema
	return err
}

// Set implements the method of the ConfigService.
func (i *instance) Set(ctx context.Context, req *configv1.SetRequest) (*configv1.SetResponse, error) {
	s, err := i.store(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	c, err := change(req, req.IfRevision)
	if err != nil {
		return nil, err
	}
	revision, err := i.publish(ctx, s, []config.Change{c}, said(ctx, req))
	if err != nil {
		return nil, err
	}
	return &configv1.SetResponse{Revision: revision}, nil
}

// Publish implements the method of the ConfigService.
func (i *instance) Publish(ctx context.Context, req *configv1.PublishRequest) (*configv1.PublishResponse, error) {
	s, err := i.store(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	var changes []config.Change
	for _, m := range req.GetChanges() {
		if m.GetDelete() {
			if m.GetValue() != "" || len(m.GetData()) > 0 {
				return nil, invalid("value", "is given together with a deletion")
			}
			changes = append(changes, config.Change{Key: m.GetKey(), Delete: true, Expect: m.IfRevision})
			continue
		}
		c, err := change(m, m.IfRevision)
		if err != nil {
			return nil, err
		}
		changes = append(changes, c)
	}
	revision, err := i.publish(ctx, s, changes, said(ctx, req))
	if err != nil {
		return nil, err
	}
	return &configv1.PublishResponse{Revision: revision}, nil
}

// Rollback implements the method of the ConfigService.
func (i *instance) Rollback(ctx context.Context, req *configv1.RollbackRequest) (*configv1.RollbackResponse, error) {
	s, err := i.store(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	if req.GetToRevision() < 1 {
		return nil, invalid("to_revision", "%d is less than 1", req.GetToRevision())
	}
	old, err := bounded(ctx, reading, func(ctx context.Context) (*config.Version, error) {
		return s.At(ctx, req.GetKey(), req.GetToRevision())
	})
	switch {
	case err != nil:
		return nil, err
	case old.Deleted:
		return nil, wasDeleted(old)
	}
	c := config.Change{Key: old.Key, Value: old.Value, Codec: old.Codec, Of: old.Revision, Expect: req.IfRevision}
	revision, err := i.publish(ctx, s, []config.Change{c}, said(ctx, req))
	if err != nil {
		return nil, err
	}
	return &configv1.RollbackResponse{Revision: revision, OfRevision: old.Revision}, nil
}

// Delete implements the method of the ConfigService.
func (i *instance) Delete(ctx context.Context, req *configv1.DeleteRequest) (*configv1.DeleteResponse, error) {
	s, err := i.store(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	revision, err := i.publish(ctx, s, []config.Change{{Key: req.GetKey(), Delete: true, Expect: req.IfRevision}}, said(ctx, req))
	if err != nil {
		return nil, err
	}
	return &configv1.DeleteResponse{Revision: revision}, nil
}

// valueIn puts a version's value into the field that can hold it.
func valueIn(m *configv1.Version, value []byte) {
	if utf8.Valid(value) {
		m.Value = string(value)
		return
	}
	m.Data = value
}
