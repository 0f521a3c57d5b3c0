import type { Values } from '../cli/parse.ts';
import { UsageError } from '../config.ts';
import { type UserDataOptions, readWanted } from '../core/userdata/read-wanted.ts';
import { renderUserData } from '../core/userdata/render.ts';
import type { Refused } from '../core/userdata/wanted.ts';
import type { Command } from './context.ts';

/** Prints user data, or a snippet with it. Looks at nothing, changes nothing. */
export const userdata: Command = async ({ values, print }) => {
  const wanted = given(readWanted(optionsOf(values)));
  print(given(renderUserData(wanted)));
  return 0;
};

function optionsOf(values: Values): UserDataOptions {
  const text = (name: string): string | undefined => values[name] as string | undefined;
  return {
    // yargs has let no others through.
    os: text('os') as UserDataOptions['os'],
    format: (text('format') ?? 'userdata') as UserDataOptions['format'],
    cluster: text('cluster'),
    region: text('region'),
    partition: text('partition') as UserDataOptions['partition'],
    executableUrl: text('executable-url'),
    executableSha256: (values['executable-sha256'] as readonly string[] | undefined) ?? [],
    apiServer: text('api-server'),
    clusterCa: text('cluster-ca'),
    serviceCidr: text('service-cidr'),
  };
}

function given<Value extends object | string>(value: Value | Refused): Value {
  if (typeof value === 'object' && 'is' in value) throw new UsageError((value as Refused).because);
  return value as Value;
}
