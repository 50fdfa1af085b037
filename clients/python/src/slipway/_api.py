"""What the service can do, one line a method of both clients. What each takes, gives and raises stands where it is
described: in _deployments.py, _collections.py, _service.py and _reindex.py."""

from __future__ import annotations

from . import _collections, _deployments, _reindex, _service
from ._operations import operation, streaming


class Api:
    READY = _service.READY

    # deployments
    deploy_model = operation(_deployments.deploy_model)
    get_deployment_status = operation(_deployments.get_deployment_status)
    list_deployments = operation(_deployments.list_deployments)
    update_deployment = operation(_deployments.update_deployment)
    patch_deployment = operation(_deployments.patch_deployment)
    delete_deployment = operation(_deployments.delete_deployment)
    rollback_deployment = operation(_deployments.rollback_deployment)
    restart_deployment = operation(_deployments.restart_deployment)
    wait_for_deployment = operation(_deployments.wait_for_deployment)
    list_revisions = operation(_deployments.list_revisions)

    # events and logs
    list_events = operation(_deployments.list_events)
    list_logs = operation(_deployments.list_logs)
    follow_events = streaming(_deployments.follow_events)
    follow_logs = streaming(_deployments.follow_logs)

    # tasks
    get_task = operation(_deployments.get_task)
    list_tasks = operation(_deployments.list_tasks)
    cancel_task = operation(_deployments.cancel_task)
    restart_task = operation(_deployments.restart_task)
    wait_for_task = operation(_deployments.wait_for_task)
    list_failed_items = operation(_deployments.list_failed_items)

    # models by id
    deploy = operation(_deployments.deploy)
    get_deploy_task = operation(_deployments.get_deploy_task)
    get_model_deploy_status = operation(_deployments.get_model_deploy_status)
    delete = operation(_deployments.delete)
    get_delete_task = operation(_deployments.get_delete_task)
    get_model_delete_status = operation(_deployments.get_model_delete_status)
    ask_model_task = operation(_deployments.ask_model_task)

    # collections
    create_collection = operation(_collections.create_collection)
    list_collections = operation(_collections.list_collections)
    get_collection = operation(_collections.get_collection)
    delete_collection = operation(_collections.delete_collection)
    list_indexes = operation(_collections.list_indexes)

    # documents and searches
    put_document = operation(_collections.put_document)
    get_document = operation(_collections.get_document)
    delete_document = operation(_collections.delete_document)
    write_documents = operation(_collections.write_documents)
    import_documents = operation(_collections.import_documents)
    export_documents = streaming(_collections.export_documents)
    search = operation(_collections.search)
    search_queries = operation(_collections.search_queries)

    # changing a collection's embedding model
    reindex = operation(_collections.reindex)
    begin_reindex = operation(_collections.begin_reindex)
    switch = operation(_collections.switch)
    rollback_collection = operation(_collections.rollback_collection)
    run_reindex_task = operation(_collections.run_reindex_task)
    get_reindex_task = operation(_collections.get_reindex_task)
    list_reindex_tasks = operation(_collections.list_reindex_tasks)
    restart_reindex_task = operation(_collections.restart_reindex_task)
    cancel_reindex_task = operation(_collections.cancel_reindex_task)

    # inside a re-index task of one's own
    initiate_model_deployment_and_wait = operation(_reindex.initiate_model_deployment_and_wait)
    initiate_model_deletion = operation(_reindex.initiate_model_deletion)
    blue_switch = operation(_reindex.blue_switch)

    # inference
    embed = operation(_service.embed)
    infer = operation(_service.infer)
    get_model_metadata = operation(_service.get_model_metadata)
    is_model_ready = operation(_service.is_model_ready)

    # packages
    upload_package = operation(_service.upload_package)
    list_packages = operation(_service.list_packages)
    get_package = operation(_service.get_package)
    build_package = operation(_service.build_package)
    export_package = operation(_service.export_package)
    push_package = operation(_service.push_package)
    delete_package = operation(_service.delete_package)
    prune_packages = operation(_service.prune_packages)

    # tokens
    create_token = operation(_service.create_token)
    list_tokens = operation(_service.list_tokens)
    revoke_token = operation(_service.revoke_token)

    # the service itself
    is_ready = operation(_service.is_ready)
    list_processes = operation(_service.list_processes)
    begin_upgrade = operation(_service.begin_upgrade)
    get_upgrade = operation(_service.get_upgrade)
