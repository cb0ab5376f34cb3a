// Package pipeline carries unary calls to a host in one stream, where those that
// are made at the same time share messages. It is for programs with many calls
// under way: each costs both sides a fraction of what a gRPC call of its own does.
//
// A [Conn] stands in for the connection under it, and every generated client works
// over it:
//
//	conn, err := grpc.NewClient("127.0.0.1:2378", creds)
//	…
//	piped := pipeline.New(conn)
//	defer piped.Close()
//	locks := lockv1.NewLockServiceClient(piped)
//
// # Guarantees
//
// A call through a pipeline is a call like any other: its deadline, its end, its
// metadata, its errors and the permissions of its caller are the same. Nothing is
// sent twice: a call that was sent and not answered when the stream ends fails
// with Unavailable, as it does when a connection is lost, and whoever made it
// knows whether to repeat it.
//
// # What travels alone
//
// Streams, requests of more than 64 KiB, calls with more than 32 KiB of metadata
// or with credentials of their own among them, calls with options other than
// [grpc.Header], [grpc.Trailer] and [grpc.Peer], and messages that are no protobuf
// go by the connection itself. So do unary calls that are made while 1 MiB of
// others waits for the connection to take it, and so does everything while there is
// no pipeline: at the beginning, while the host cannot be reached, and for good with
// a host that has no pipelines.
//
// Unary interceptors and statistics of the connection do not see calls that
// travel in the pipeline. Wrap the Conn where that matters.
//
// # Who calls
//
// The stream is opened with the connection's own credentials, and whoever opened it
// makes all its calls. When the host does not know the caller any more, because a
// token was replaced, the calls after that travel on a new stream.
package pipeline
