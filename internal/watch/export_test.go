package watch

import "context"

// ObserversContext makes a watch of the test share the observers' stream.
func ObserversContext(ctx context.Context) (context.Context, context.CancelFunc) {
	joined, cancel := context.WithCancel(new(Streams).observers.stream("observers").ctx)
	context.AfterFunc(ctx, cancel)
	return joined, cancel
}

// KeysContext makes a watch of the test share the stream of Key's watches.
func KeysContext(ctx context.Context) (context.Context, context.CancelFunc) {
	joined, cancel := context.WithCancel(new(Streams).keys.stream("keys").ctx)
	context.AfterFunc(ctx, cancel)
	return joined, cancel
}
