package actions

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"certbook/actions/kube"
	"certbook/engine"
)

// moveManifest takes the manifest out of kubelet's sight, waits until the
// container has gone, and puts it back, whatever happens in between.
func (a *RestartContainer) moveManifest(ctx context.Context, h engine.Host, c containers, m kube.Manifest) error {
	parked := a.parkedPath(m.Path)
	if _, err := h.Exec(ctx, engine.Command{Argv: []string{"mkdir", "-p", "-m", "700", "--", h.Path(a.Park)}}); err != nil {
		return err
	}
	disarm, err := arm(ctx, h, parked, m.Path, a.grace(m.Component)+a.Wait.Std()+comeBack)
	if err != nil {
		return fmt.Errorf("nothing was moved, as the host could not be told to move it back by itself: %w", err)
	}
	defer disarm()
	_, err = h.Exec(ctx, engine.Command{Argv: []string{"mv", "-T", "--", h.Path(m.Path), h.Path(parked)}})
	if err == nil {
		err = a.awaitGone(ctx, h, c, m)
	}
	// An error of the first move does not say that nothing was moved.
	return errors.Join(err, moveBack(context.WithoutCancel(ctx), h, parked, m.Path))
}

// comeBack is how much longer than it should take a host waits for the
// controller before it moves a manifest back by itself.
const comeBack = time.Minute

// armScript lets the host move $1 back to $2 by itself after $3 seconds, if it is
// still away, and prints how to call that off. $4 is the name of a systemd unit,
// "" for a plain process: a session that ends with its connection would take that
// along where systemd is told so.
const armScript = `set -eu
undo='sleep "$3"; if [ -e "$1" ] && [ ! -e "$2" ]; then mv -T -- "$1" "$2"; fi'
if [ -n "$4" ] && [ -d /run/systemd/system ] && command -v systemd-run >/dev/null 2>&1; then
	systemd-run --quiet --collect --unit="$4" sh -c "$undo" sh "$1" "$2" "$3"
	echo "unit $4"
else
	setsid sh -c "$undo" sh "$1" "$2" "$3" >/dev/null 2>&1 </dev/null &
	# Only once it leads a group can it be called off.
	while kill -s 0 "$!" && ! kill -s 0 -- "-$!"; do :; done 2>/dev/null
	echo "process $!"
fi`

// disarmScript calls it off.
const disarmScript = `case $1 in
unit) systemctl stop "$2.service" ;;
process) kill -- "-$2" ;;
esac 2>/dev/null || :`

// arm is a dead man's switch: unless it is disarmed in time, the host itself
// moves a manifest back that will be moved out.
func arm(ctx context.Context, h engine.Host, parked, home string, within time.Duration) (disarm func(), err error) {
	unit := ""
	if h.Path("/") == "/" {
		unit = "certbook-move-back-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	}
	argv := []string{"sh", "-c", armScript, "sh", h.Path(parked), h.Path(home), strconv.Itoa(int(within.Seconds())), unit}
	out, err := h.Exec(ctx, engine.Command{Argv: argv})
	if err != nil {
		return nil, err
	}
	kind, id, _ := strings.Cut(strings.TrimSpace(string(out.Stdout)), " ")
	return func() { // when it fails the switch finds nothing to move
		_, _ = h.Exec(context.WithoutCancel(ctx), engine.Command{Argv: []string{"sh", "-c", disarmScript, "sh", kind, id}})
	}, nil
}

// moveBack puts a parked manifest in its place; one that is not parked is there.
func moveBack(ctx context.Context, h engine.Host, parked, home string) error {
	there, err := h.ReadFiles(ctx, parked)
	if err == nil && len(there) > 0 {
		_, err = h.Exec(ctx, engine.Command{Argv: []string{"mv", "-T", "--", h.Path(parked), h.Path(home)}})
	}
	if err != nil {
		return fmt.Errorf("the manifest is perhaps still at %s; move it back to %s: %w", parked, home, err)
	}
	return nil
}

// parkedRoot is the directory on a host of manifests that are moved out:
// RUN/PATH, with @ for each / in the path.
const parkedRoot = "/var/lib/certbook/parked"

// parkedPath returns where a manifest is parked. The name there says where its
// home is.
func (a *RestartContainer) parkedPath(manifest string) string {
	return path.Join(a.Park, strings.ReplaceAll(strings.TrimPrefix(manifest, "/"), "/", "@"))
}

// parked returns where a component's manifest was left by a run, this or an
// earlier one, that did not get to move it back; "" when it was not.
func (a *RestartContainer) parked(ctx context.Context, p engine.Probe, component string) (string, error) {
	files, err := p.ReadFiles(ctx, path.Join(path.Dir(a.Park), "*", "*"))
	if err != nil {
		return "", err
	}
	for _, f := range files {
		if m, err := kube.ParseManifest(f.Path, f.Data); err == nil && m.Component == component {
			return f.Path, nil
		}
	}
	return "", nil
}

// unpark moves a left manifest back.
func (a *RestartContainer) unpark(ctx context.Context, h engine.Host, layout kube.Layout, component string) (moved bool, err error) {
	if _, there := layout.Pods.Component(component); there {
		return false, nil
	}
	parked, err := a.parked(ctx, h, component)
	if err != nil || parked == "" {
		return false, err
	}
	_, name, _ := strings.Cut(path.Base(parked), strings.ReplaceAll(strings.TrimPrefix(layout.ManifestsDir, "/"), "/", "@")+"@")
	if name == "" { // parked from a manifests directory that is no longer the kubelet's
		name = component + ".yaml"
	}
	return true, moveBack(ctx, h, parked, path.Join(layout.ManifestsDir, name))
}
