package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	configv1 "github.com/conclavehq/conclave/api/conclave/config/v1"
	"github.com/conclavehq/conclave/config"
	"github.com/conclavehq/conclave/core/recipe"
)

// resource is the name of the one document that a schema consists of.
const resource = "schema.json"

// errElsewhere refuses documents that a schema names: a host reads no files and
// asks no other host on behalf of whoever may set a schema.
var errElsewhere = errors.New("it is in another document, and those are not read")

type noDocuments struct{}

func (noDocuments) Load(string) (any, error) { return nil, errElsewhere }

// compile reads a JSON Schema. Patterns are those of Go, which take linear time
// whatever they are matched against.
func compile(text []byte) (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(noDocuments{})
	if err := c.AddResource(resource, doc); err != nil {
		return nil, fmt.Errorf("is not a JSON Schema: %w", err)
	}
	s, err := c.Compile(resource)
	if e, ok := errors.AsType[*jsonschema.SchemaValidationError](err); ok {
		return nil, fmt.Errorf("is not a JSON Schema: %w", faults(e.Err))
	}
	if err != nil {
		return nil, fmt.Errorf("is not a JSON Schema: %s", brief(err))
	}
	return s, nil
}

// maxFaults is how many faults of a value are told.
const maxFaults = 5

// validate says where a value does not pass a schema.
func validate(s *jsonschema.Schema, value []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(value))
	if err != nil {
		return fmt.Errorf("is not JSON, and the key has a schema: %w", err)
	}
	if err := s.Validate(doc); err != nil {
		return fmt.Errorf("does not pass the schema: %w", faults(err))
	}
	return nil
}

// faults tells the faults of a document on one line.
func faults(err error) error {
	e, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return err
	}
	all := leaves(nil, e, message.NewPrinter(language.English))
	if len(all) > maxFaults {
		all = append(all[:maxFaults], fmt.Sprintf("and %d more", len(all)-maxFaults))
	}
	return errors.New(strings.Join(all, "; "))
}

// leaves lists the faults that have no further cause.
func leaves(all []string, e *jsonschema.ValidationError, p *message.Printer) []string {
	for _, cause := range e.Causes {
		all = leaves(all, cause, p)
	}
	if len(e.Causes) > 0 {
		return all
	}
	where := "/" + strings.Join(e.InstanceLocation, "/")
	return append(all, fmt.Sprintf("at %s: %s", where, e.ErrorKind.LocalizedString(p)))
}

// brief keeps an error of several lines to one, without the name that the
// document has here only.
func brief(err error) string {
	lines := strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' })
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	before, rest, named := strings.Cut(strings.Join(lines, " "), "file://")
	if _, after, ok := strings.Cut(rest, resource); named && ok {
		return before + after
	}
	return before + rest
}

// pass checks a value against the schema of its key, and returns the schema's
// revision, 0 if there is none.
func pass(ctx context.Context, s *config.Store, key string, value []byte) (int64, error) {
	schema, err := s.Schema(ctx, key)
	if errors.Is(err, config.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	compiled, err := compile(schema.Value)
	if err != nil {
		return 0, invalid("value", "the schema of %q %s: set another one", key, err)
	}
	if err := validate(compiled, value); err != nil {
		return 0, invalid("value", "%s", err)
	}
	return schema.Revision, nil
}

// SetSchema implements the method of the ConfigService.
func (i *instance) SetSchema(ctx context.Context, req *configv1.SetSchemaRequest) (*configv1.SetSchemaResponse, error) {
	s, err := i.store(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	if req.GetSchema() == "" {
		return nil, invalid("schema", "is empty; DeleteSchema takes a schema away")
	}
	if len(req.GetSchema()) > config.MaxValue {
		return nil, invalid("schema", "has %d bytes, the limit is %d", len(req.GetSchema()), config.MaxValue)
	}
	compiled, err := compile([]byte(req.GetSchema()))
	if err != nil {
		return nil, invalid("schema", "%s", err)
	}
	resp := new(configv1.SetSchemaResponse)
	resp.Revision, err = bounded(ctx, writing, func(ctx context.Context) (int64, error) {
		return s.SetSchema(ctx, req.GetKey(), []byte(req.GetSchema()), said(ctx, req)...)
	})
	if err != nil {
		return nil, err
	}
	// A look for people; the schema is set.
	v, err := bounded(ctx, reading, func(ctx context.Context) (*config.Version, error) { return s.Get(ctx, req.GetKey()) })
	if err == nil && !v.Deleted {
		if err := validate(compiled, v.Value); err != nil {
			resp.PresentFails = err.Error()
		}
	}
	return resp, nil
}

// GetSchema implements the method of the ConfigService.
func (i *instance) GetSchema(ctx context.Context, req *configv1.GetSchemaRequest) (*configv1.GetSchemaResponse, error) {
	s, err := i.store(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	v, err := bounded(ctx, reading, func(ctx context.Context) (*config.Version, error) { return s.Schema(ctx, req.GetKey()) })
	if err != nil {
		return nil, err
	}
	return &configv1.GetSchemaResponse{Key: v.Key, Schema: string(v.Value), Revision: v.Revision, Author: v.Author, Message: v.Message, Time: timeOf(v.Time)}, nil
}

// DeleteSchema implements the method of the ConfigService.
func (i *instance) DeleteSchema(ctx context.Context, req *configv1.DeleteSchemaRequest) (*configv1.DeleteSchemaResponse, error) {
	s, err := i.store(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	_, err = bounded(ctx, writing, func(ctx context.Context) (int64, error) { return s.SetSchema(ctx, req.GetKey(), nil) })
	if err != nil {
		return nil, recipe.Status(err)
	}
	return new(configv1.DeleteSchemaResponse), nil
}
