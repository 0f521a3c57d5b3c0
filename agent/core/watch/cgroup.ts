/** The container and the pod that a process is in, as its cgroup names them. */
export interface Place {
  readonly container?: string;
  readonly podUid?: string;
}

/**
 * /proc/PID/cgroup. Runtimes and kubelet name cgroups in their own ways; all of these are one container of one pod:
 *
 *   0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0f5c…_….slice/cri-containerd-4be2….scope
 *   0::/kubepods.slice/kubepods-pod0f5c…_….slice/crio-4be2….scope
 *   4:memory:/kubepods/burstable/pod0f5c…-…/4be2…                            cgroup v1, a line a controller
 *   0::/system.slice/containerd.service/kubepods-pod0f5c…_….slice:cri-containerd:4be2…
 *   0::/../../kubepods-besteffort-pod0f5c…_….slice/cri-containerd-4be2….scope  seen from a container
 *
 * Lower levels can be made by whoever is in the container, under any name. So the outermost pod counts, and the first container
 * in it; and where the lines of a process contradict each other, nothing does.
 */
export function placeOf(text: string): Place {
  const places = text.split('\n').map(placeOfLine);
  const container = only(places.flatMap(({ container }) => container ?? []));
  const podUid = only(places.flatMap(({ podUid }) => podUid ?? []));
  return { ...(container === undefined ? {} : { container }), ...(podUid === undefined ? {} : { podUid }) };
}

function placeOfLine(line: string): Place {
  const [, path = ''] = /^\d+:[^:]*:(.*)$/.exec(line) ?? [];
  const names = path.replace(/ \(deleted\)$/, '').split(/[/:]/);
  const pod = names.findIndex((name) => POD.test(name));
  const container = names.slice(pod + 1).flatMap((name) => CONTAINER.exec(name)?.[1] ?? [])[0];
  const podUid = POD.exec(names[pod] ?? '')?.[1]?.replaceAll('_', '-');
  return { ...(container === undefined ? {} : { container }), ...(podUid === undefined ? {} : { podUid }) };
}

/** systemd takes `-` for a level, so a UID has `_` there. Static pods have a hash for a UID: 32 digits in one. `kubelet-`: kind. */
const POD = /^(?:(?:kubelet-)?kubepods(?:-burstable|-besteffort)?-)?pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?$/;

/** Not `crio-conmon-….scope`: the process that watches a container is not in it. */
const CONTAINER = /^(?:(?:cri-containerd|crio|docker|nerdctl|libpod)-)?([0-9a-f]{64})(?:\.scope)?$/;

const only = (names: readonly string[]): string | undefined => (new Set(names).size === 1 ? names[0] : undefined);
