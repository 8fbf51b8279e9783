/** `veld repository remove` */
import { defineCommand } from '../../command.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ repository: string }>({
  name: 'repository remove',
  group: 'Backups',
  summary: 'Forget a repository; what is in it stays',
  description: ['This node forgets it with its password: keep a copy of that first, if the backups are to be read again.'],
  args: [{ name: 'repository', completes: 'repository', help: 'Name of the repository' }],
  examples: [['repository remove old', 'Its backups stay where they are']],
  errors: ['repository.not_found', 'repository.in_use'],
  json: 'the repository that was forgotten',
  async run(context, { repository }) {
    const gone = await (await context.client()).request('DELETE', `/v1/repositories/${segment(repository)}`);
    if (context.json) context.printJson(gone);
    else context.out(`repository ${repository} is forgotten; what is in it stays\n`);
  },
});
