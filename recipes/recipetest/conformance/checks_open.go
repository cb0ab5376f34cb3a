package conformance

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	recipev1 "github.com/conclavehq/conclave/api/conclave/recipe/v1"
	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/keyspace"
)

var semantic = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)

// checkInfo looks at the description twice.
func checkInfo(ctx context.Context, s *Suite) error {
	first := s.subject.info
	if err := keyspace.CheckRecipe("name", first.Name); err != nil {
		return err
	}
	switch {
	case !semantic.MatchString(first.Version):
		return fmt.Errorf("version: %q is not a semantic version without a leading v", first.Version)
	case strings.TrimSpace(first.Summary) == "" || strings.Contains(first.Summary, "\n"):
		return fmt.Errorf("summary: %q is not one line", first.Summary)
	}
	second, err := s.subject.again(ctx)
	if err != nil {
		return fmt.Errorf("the second look: %w", err)
	}
	if first.Name != second.Name || first.Version != second.Version || first.Summary != second.Summary || !sameConfig(first.Config, second.Config) {
		return fmt.Errorf("a second look tells %s %s %q, the first told %s %s %q, or another configuration",
			second.Name, second.Version, second.Summary, first.Name, first.Version, first.Summary)
	}
	return nil
}

// sameConfig reports whether two prototypes of a configuration say the same.
func sameConfig(a, b proto.Message) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.ProtoReflect().Descriptor().FullName() == b.ProtoReflect().Descriptor().FullName() && protojson.Format(a) == protojson.Format(b)
}

// checkDescriptors resolves everything, as a tool does that has never seen the recipe.
func checkDescriptors(ctx context.Context, s *Suite) error {
	p, err := s.place(ctx)
	if err != nil {
		return err
	}
	methods, err := p.methods(ctx)
	if err != nil {
		return err
	}
	if len(methods) == 0 {
		return errors.New("it registers no service with a method")
	}
	var wrong []error
	for _, m := range methods {
		wrong = append(wrong, checkMethod(m))
	}
	return errors.Join(wrong...)
}

// checkMethod says what a method's options lack.
func checkMethod(m protoreflect.MethodDescriptor) error {
	o := options(m)
	var wrong []string
	if o.GetSummary() == "" {
		wrong = append(wrong, "summary: is empty")
	}
	if o.GetPermission() == recipev1.Permission_PERMISSION_UNSPECIFIED {
		wrong = append(wrong, "permission: is not given")
	}
	if name := o.GetSessionField(); name != "" {
		if f := m.Input().Fields().ByName(protoreflect.Name(name)); f == nil || f.Kind() != protoreflect.StringKind || f.IsList() {
			wrong = append(wrong, fmt.Sprintf("session_field: %q is no string field of %s", name, m.Input().FullName()))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("method %s: option (conclave.recipe.v1.method): %s", m.FullName(), strings.Join(wrong, ", "))
}

// checkConfig gives configurations that no recipe takes.
func checkConfig(ctx context.Context, s *Suite) error {
	const unknown = "no_such_field"
	r, err := s.subject.run(ctx, s, probing{})
	if err != nil {
		return err
	}
	cfg := s.hostConfig()
	cfg.Recipes = map[string]host.RecipeConfig{s.subject.info.Name: {Config: []byte(`{"` + unknown + `":1}`)}}
	_, err = host.New(cfg, host.WithRecipe(r.recipe()), host.WithLogger(s.log))
	if closing := r.close(ctx); closing != nil {
		return closing
	}
	switch prototype := s.subject.info.Config; {
	case err == nil:
		return fmt.Errorf("a configuration with the field %s is taken", unknown)
	case prototype != nil && !strings.Contains(err.Error(), unknown):
		return fmt.Errorf("a configuration with the field %s is refused without naming it: %w", unknown, err)
	case prototype == nil:
		return nil
	default:
		return checkPrototype(prototype)
	}
}

// checkPrototype refuses a prototype that takes whatever it is given.
func checkPrototype(prototype proto.Message) error {
	m := dynamicpb.NewMessage(prototype.ProtoReflect().Descriptor())
	if err := protojson.Unmarshal([]byte(`{"no_such_field":1}`), m); err == nil {
		return fmt.Errorf("%s takes any field", m.Descriptor().FullName())
	}
	return nil
}

// checkReopen takes the recipe from a host that runs, and gives it back.
func checkReopen(ctx context.Context, s *Suite) error {
	p, err := s.open(ctx, probing{})
	if err != nil {
		return fmt.Errorf("the first open: %w", err)
	}
	err = p.answers(ctx)
	if err == nil {
		// Whether the host had time enough for it is not what is checked here.
		if err = p.host.RemoveRecipe(ctx, s.subject.info.Name); errors.Is(err, context.DeadlineExceeded) {
			err = ctx.Err()
		}
	}
	if err == nil {
		if err = p.host.AddRecipe(ctx, p.runner.recipe()); err != nil {
			err = fmt.Errorf("the second open: %w", err)
		}
	}
	if err == nil {
		err = p.runner.awaitReady(ctx)
	}
	if err == nil {
		err = p.answers(ctx)
	}
	return errors.Join(err, p.close(ctx))
}

// checkClose closes it unused, and twice; a process of its own has to end.
func checkClose(ctx context.Context, s *Suite) error {
	told := make(chan error, 1)
	p, err := s.open(ctx, probing{twice: told})
	if err != nil {
		return err
	}
	if v, ok := p.runner.(*supervised); ok {
		pid := v.plugin.Status().PID
		if err := p.close(ctx); err != nil {
			return err
		}
		return awaitEnd(ctx, pid)
	}
	// A host that does not wait for it is no fault of the recipe's.
	closing := p.close(ctx)
	select {
	case err := <-told:
		return errors.Join(err, closing)
	case <-ctx.Done():
		return fmt.Errorf("close does not return: %w", ctx.Err())
	}
}

// checkLog reads what the recipe, or the SDK on its behalf, logged when it was opened.
func checkLog(ctx context.Context, s *Suite) error {
	p, err := s.open(ctx, probing{open: func(ctx context.Context, env recipe.Env) {
		for _, level := range levels {
			env.Log.Log(ctx, level, lineOf(level))
		}
	}})
	if err != nil {
		return err
	}
	err = s.wantLines(ctx)
	return errors.Join(err, p.close(ctx))
}

// checkGuard tries what the guard refuses.
func checkGuard(ctx context.Context, s *Suite) error {
	const foreign = keyspace.Root + "default/another-recipe/key"
	tried := make(chan error, 1)
	p, err := s.open(ctx, probing{open: func(ctx context.Context, env recipe.Env) {
		_, put := env.Client.Put(ctx, foreign, "")
		_, get := env.Client.Get(ctx, foreign)
		tried <- errors.Join(wantRefused("a write", put), wantRefused("a read", get))
	}})
	if err != nil {
		return err
	}
	defer s.logs.forgive(s.subject.info.Name)
	if err := p.close(ctx); err != nil {
		return err
	}
	return <-tried
}

// checkKeys looks at every key that was touched since the suite began.
func checkKeys(ctx context.Context, s *Suite) error {
	if _, err := s.place(ctx); err != nil {
		return err
	}
	if kinds := s.logs.refused(s.subject.info.Name); len(kinds) > 0 {
		return fmt.Errorf("the guard refused %s", strings.Join(kinds, ", "))
	}
	key, err := s.store.outside(ctx, s.subject.info.Name)
	if err != nil {
		return err
	}
	if key != "" {
		return fmt.Errorf("the key %q is not below /conclave/<namespace>/%s/", key, s.subject.info.Name)
	}
	return nil
}

// wantRefused returns an error unless etcd's client was told that it may not.
func wantRefused(what string, err error) error {
	if errors.Is(err, rpctypes.ErrPermissionDenied) {
		return nil
	}
	return fmt.Errorf("%s of another recipe's key ends with %w, not with permission denied", what, orNil(err))
}
