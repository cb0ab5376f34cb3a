// Package recipes is the folder of the standard recipes: one package each, a
// gRPC service over the library of the same name.
//
// A recipe is thin. It checks a request, calls the library with the caller's
// borrowed session, and turns the result into an answer or a reason. What two
// recipes share belongs in core/recipe, and what a library user could want too
// belongs in the library. A recipe of a third party is written the same way and
// has no way to do more; core/recipe says how.
package recipes
